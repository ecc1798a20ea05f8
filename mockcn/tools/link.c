/* SPDX-License-Identifier: MPL-2.0
 *
 * link.run() as a program: the client of the thin tools where there is a C compiler (stubs.py), since starting an
 * interpreter is nearly all that such a tool costs, and a daemon that is tested starts thousands.
 *
 *     link TOOL STUB WORD...      as the first line of a stub has it: #!/path/of/link TOOL
 *
 * The wire, the words on standard error and the exit statuses are those of link.py, whose head describes them; a test
 * holds the two to each other. Always: a frame is copied when all of it has come.
 * Not here: tools with work of their own, and faults, which the node carries out for a thin tool.
 * It needs little of the C library, and none where bare.c can be in its place: stubs.py tries that first. */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define POINTER "/.mockcn/socket"
#define CONNECT_TRIES 50 /* of 10 ms each: the node's listen queue may be full for a moment */

static const char *stub; /* as it was called */
static char root[PATH_MAX];
static int node = -1; /* the connection */

static void die(const char *what, const char *where, const char *why)
{
	static char line[4 * PATH_MAX];
	const char *slash = strrchr(stub, '/');
	const char *parts[] = {slash ? slash + 1 : stub, ": ", what, where, why ? " (" : "", why ? why : "",
			       why ? ")\n" : "\n"};
	char *at = line;

	for (size_t part = 0; part < sizeof parts / sizeof *parts; part++)
		at = stpcpy(at, parts[part]);
	if (write(2, line, (size_t)(at - line)) < 0)
		_exit(1); /* there is nobody to be told */
	_exit(1);
}

static void *room(void *old, size_t size)
{
	void *memory = realloc(old, size ? size : 1);

	if (memory == NULL)
		die("not enough memory for an answer of the mock compute node", "", NULL);
	return memory;
}

/* The nearest folder above the stub that holds the pointer to the node's socket. */
static void find_root(void)
{
	char *slash = NULL, pointer[PATH_MAX + sizeof POINTER];

	if (realpath(stub, root) != NULL) {
		while ((slash = strrchr(root, '/')) != NULL) {
			*slash = '\0';
			stpcpy(stpcpy(pointer, root), POINTER);
			if (access(pointer, F_OK) == 0)
				return;
		}
	}
	die(stub, " does not lie in the root of a mock compute node", NULL);
}

static void connect_to_node(void)
{
	char path[PATH_MAX + sizeof POINTER];
	struct sockaddr_un where = {.sun_family = AF_UNIX};
	struct timespec moment = {.tv_nsec = 10 * 1000 * 1000};
	ssize_t size = -1;
	int pointer;

	stpcpy(stpcpy(path, root), POINTER);
	if ((pointer = open(path, O_RDONLY | O_CLOEXEC)) >= 0)
		size = read(pointer, where.sun_path, sizeof where.sun_path - 1);
	if (size < 0)
		die("no mock compute node is running at ", root, strerror(errno));
	close(pointer);
	if (size > 0)
		where.sun_path[size - 1] = '\0'; /* the end of its line */
	for (int attempt = 1;; attempt++) {
		if ((node = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0 &&
		    connect(node, (struct sockaddr *)&where, sizeof where) == 0)
			return;
		if (errno != EAGAIN || attempt == CONNECT_TRIES)
			die("no mock compute node is running at ", root, strerror(errno));
		close(node);
		nanosleep(&moment, NULL);
	}
}

static uint32_t number(const unsigned char *bytes)
{
	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* The first four bytes of `message` become the length of what follows them. */
static int send_message(char *message, size_t size)
{
	ssize_t sent;

	for (int byte = 0; byte < 4; byte++)
		message[byte] = (char)((size - 4) >> (24 - 8 * byte));
	for (; size > 0; message += sent, size -= (size_t)sent) {
		if ((sent = send(node, message, size, MSG_NOSIGNAL)) < 0) {
			if (errno != EINTR)
				return -1;
			sent = 0;
		}
	}
	return 0;
}

static void send_words(const char *tool, char **words)
{
	char digits[24] = "", *pid = digits + sizeof digits - 1, *message;
	const char *head[] = {"run", tool, NULL};
	size_t size = 4;

	for (long rest = getpid(); rest > 0; rest /= 10)
		*--pid = (char)('0' + rest % 10);
	head[2] = pid;
	for (int place = 0; place < 3; place++)
		size += strlen(head[place]) + 1;
	for (char **word = words; *word != NULL; word++)
		size += strlen(*word) + 1;
	message = room(NULL, size);
	size = 4;
	for (int place = 0; place < 3; place++)
		size += (size_t)(stpcpy(message + size, head[place]) - (message + size)) + 1;
	for (char **word = words; *word != NULL; word++)
		size += (size_t)(stpcpy(message + size, *word) - (message + size)) + 1;
	if (send_message(message, size - 1) < 0) /* the last NUL separates nothing */
		die("the mock compute node has gone away", "", strerror(errno));
}

/* Standard input to its end, or just `wanted` bytes of it (0: all), as one message. */
static void send_input(size_t wanted)
{
	size_t size = 4, most = wanted ? wanted + 4 : 65536;
	char *text = room(NULL, most);
	ssize_t got = 0;

	while (size < most && (got = read(0, text + size, most - size)) != 0) {
		if (got < 0 && errno != EINTR)
			break;
		size += got > 0 ? (size_t)got : 0;
		if (size == most && !wanted)
			text = room(text, most *= 2);
	}
	if (got < 0 || send_message(text, size) < 0)
		die("cannot hand standard input to the mock compute node", "", strerror(errno));
}

/* Exactly `size` bytes of the node, or the end of this tool. */
static void receive(void *into, size_t size)
{
	ssize_t got;

	for (char *at = into; size > 0; at += got, size -= (size_t)got) {
		if ((got = recv(node, at, size, 0)) < 0 && errno == EINTR)
			got = 0;
		else if (got <= 0)
			die("the mock compute node has ended", "", NULL);
	}
}

static void copy(int descriptor, const char *text, size_t size)
{
	ssize_t written;

	for (; size > 0; text += written, size -= (size_t)written) {
		if ((written = write(descriptor, text, size)) < 0) {
			if (errno != EINTR)
				die("cannot write", "", strerror(errno));
			written = 0;
		}
	}
}

static int decimal(const char *text)
{
	int value = 0;

	while (*text >= '0' && *text <= '9')
		value = 10 * value + *text++ - '0';
	return value;
}

int main(int argc, char **argv)
{
	unsigned char head[5];
	char *payload = NULL;

	if (argc < 3) {
		stub = argv[0];
		die("usage: link TOOL STUB WORD...", "", NULL);
	}
	stub = argv[2];
	signal(SIGPIPE, SIG_DFL); /* a reader that has gone ends the tool, as it ends the real ones */
	find_root();
	connect_to_node();
	send_words(argv[1], argv + 3);
	for (;;) {
		receive(head, sizeof head);
		size_t size = number(head + 1);
		payload = room(payload, size + 1);
		receive(payload, size);
		payload[size] = '\0';
		switch (head[0]) {
		case 'o':
			copy(1, payload, size);
			break;
		case 'e':
			copy(2, payload, size);
			break;
		case 'i':
			send_input(0);
			break;
		case 'r':
			send_input(number((unsigned char *)payload));
			break;
		case 'x':
			_exit(decimal(payload));
		case 'k':
			kill(getpid(), decimal(payload));
			break;
		default:
			die("an answer of the mock compute node is not known", "", NULL);
		}
	}
}
