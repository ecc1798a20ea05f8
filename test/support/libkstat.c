/* SPDX-License-Identifier: MPL-2.0 */
/*
 * A stand-in for libkstat (docs/platform.md, "libkstat"). Its kernel is a text file beside the library, LIBRARY.kernel,
 * that the test writes (libkstat.py) and may replace at any time:
 *
 *     kstat KID MODULE INSTANCE CLASS TYPE NAME
 *     stat TYPE NAME VALUE                          of the kstat above; any number of them
 *     lie ndata|data_size|text|length|data N        that kstat's field says N instead of what is so
 *     fail FUNCTION ERRNO TIMES                     the first TIMES calls of the process fail so
 *     hang FUNCTION                                 calls of it do not return while this line is there
 *
 * A handle knows the kstats that were in the file when it was opened or updated last, as the real one does; a reading of
 * one that is no longer in the file ends with ENXIO. Freed memory is spoilt first. Each call is a line in LIBRARY.calls.
 * What no caller may do (a handle that was closed, a kstat that is not in the chain any more, two threads at once) ends
 * the process, after a line "MISUSE" there.
 *
 * With -DOTHER_LAYOUT the structs are those of no platform; with -DFOR_MEASURING calls take only what their work does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct kstat {
#ifdef OTHER_LAYOUT
	char ks_new[24];
#endif
	int64_t ks_crtime;
	struct kstat *ks_next;
	int32_t ks_kid;
	char ks_module[31];
	uint8_t ks_resv;
	int32_t ks_instance;
	char ks_name[31];
	uint8_t ks_type;
	char ks_class[31];
	uint8_t ks_flags;
	void *ks_data;
	uint32_t ks_ndata;
	size_t ks_data_size;
	int64_t ks_snaptime;
	void *ks_kernel[4];
} kstat_t;

typedef struct {
	char name[31];
	uint8_t data_type;
	union {
		char c[16];
		int32_t i32;
		uint32_t ui32;
		int64_t i64;
		uint64_t ui64;
		struct {
			char *addr;
			uint32_t len;
		} str;
	} value;
} kstat_named_t;

typedef struct {
	int32_t kc_chain_id;
	kstat_t *kc_chain;
	int open;
	int busy;	/* a call uses it */
	char *text;	/* of the kernel, when the chain was made */
} kstat_ctl_t;

_Static_assert(sizeof (kstat_named_t) == 48, "kstat_named_t");

static int32_t chain_id = 1000;

static void
path_of(const char *suffix, char *path, size_t size)
{
	Dl_info info;

	if (dladdr((void *)path_of, &info) == 0)
		abort();
	snprintf(path, size, "%s%s", info.dli_fname, suffix);
}

static void
note(const char *format, ...)
{
	char path[4096], line[512];
	va_list arguments;
	int fd, length;

	va_start(arguments, format);
	length = vsnprintf(line, sizeof (line) - 1, format, arguments);
	va_end(arguments);
	line[length++] = '\n';
	path_of(".calls", path, sizeof (path));
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, line, length) != length)
		abort();
	close(fd);
}

static void
must(int holds, const char *what)
{
	if (!holds) {
		note("MISUSE %s", what);
		abort();
	}
}

static void
spoil(void *memory, size_t size)
{
	memset(memory, 0xA5, size);
	free(memory);
}

static char *
kernel(void)
{
	char path[4096];
	char *text = NULL;
	size_t size = 0, capacity = 0;
	FILE *file;

	path_of(".kernel", path, sizeof (path));
	if ((file = fopen(path, "re")) == NULL)
		return (NULL);
	do {
		capacity += 1 << 16;
		text = realloc(text, capacity + 1);
		size += fread(text + size, 1, capacity - size, file);
	} while (size == capacity);
	text[size] = '\0';
	fclose(file);
	return (text);
}

/* The next line of the text at *at, without its end; NULL at the end. */
static char *
next_line(char **at, char *line, size_t size)
{
	size_t length = strcspn(*at, "\n");

	if (**at == '\0')
		return (NULL);
	snprintf(line, size, "%.*s", (int)length, *at);
	*at += length + ((*at)[length] == '\n');
	return (line);
}

static int
hangs(const char *function)
{
	char line[512], name[64];
	char *text = kernel(), *at = text;
	int result = 0;

	while (at != NULL && next_line(&at, line, sizeof (line)) != NULL)
		result |= sscanf(line, "hang %63s", name) == 1 && strcmp(name, function) == 0;
	free(text);
	return (result);
}

/* Begin a call, of which a handle can bear one at a time. Non-zero: it shall fail; errno is set. */
static int
begin(kstat_ctl_t *kc, const char *function)
{
	static int failed[8];
	char line[512], name[64];
	char *text, *at;
	int error, times, n = 0, result = 0;

	if (kc != NULL)
		must(!__atomic_exchange_n(&kc->busy, 1, __ATOMIC_SEQ_CST), "two threads use a handle at once");
#ifndef FOR_MEASURING
	note("%s", function);
	usleep(200);	/* so that another thread has time to come in between */
#endif
	text = at = kernel();
	while (at != NULL && next_line(&at, line, sizeof (line)) != NULL) {
		if (sscanf(line, "fail %63s %d %d", name, &error, &times) == 3 && n < 8) {
			if (strcmp(name, function) == 0 && failed[n] < times && !result) {
				failed[n]++;
				errno = error;
				result = 1;
			}
			n++;
		}
	}
	free(text);
	while (hangs(function))
		usleep(1000);
	return (result);
}

static void
end(kstat_ctl_t *kc)
{
	if (kc != NULL)
		__atomic_store_n(&kc->busy, 0, __ATOMIC_SEQ_CST);
}

static void
forget_chain(kstat_ctl_t *kc)
{
	kstat_t *ksp, *next;

	for (ksp = kc->kc_chain; ksp != NULL; ksp = next) {
		next = ksp->ks_next;
		if (ksp->ks_data != NULL)
			spoil(ksp->ks_data, ksp->ks_kernel[0] != NULL ? (size_t)ksp->ks_kernel[0] : 1);
		spoil(ksp, sizeof (*ksp));
	}
	kc->kc_chain = NULL;
}

static void
make_chain(kstat_ctl_t *kc)
{
	kstat_t **link = &kc->kc_chain;
	char line[512], *at = kc->text;
	char module[32], class[32], name[256];
	int kid, instance, type;

	while (next_line(&at, line, sizeof (line)) != NULL) {
		if (sscanf(line, "kstat %d %31s %d %31s %d %255s", &kid, module, &instance, class, &type, name) != 6)
			continue;
		*link = calloc(1, sizeof (kstat_t));
		(*link)->ks_kid = kid;
		(*link)->ks_instance = instance;
		(*link)->ks_type = type;
		snprintf((*link)->ks_module, 31, "%s", module);
		snprintf((*link)->ks_class, 31, "%s", class);
		snprintf((*link)->ks_name, 31, "%s", name);
		link = &(*link)->ks_next;
	}
	kc->kc_chain_id = ++chain_id;
}

kstat_ctl_t *
kstat_open(void)
{
	kstat_ctl_t *kc = NULL;

	if (begin(NULL, "kstat_open") == 0) {
		kc = calloc(1, sizeof (*kc));
		kc->open = 1;
		if ((kc->text = kernel()) == NULL) {
			free(kc);
			kc = NULL;
			errno = ENOENT;
		} else {
			make_chain(kc);
		}
	}
	end(kc);
	return (kc);
}

int
kstat_close(kstat_ctl_t *kc)
{
	(void) begin(kc, "kstat_close");
	must(kc->open == 1, "a closed handle is closed");
	forget_chain(kc);
	kc->open = 0;	/* the handle's memory stays, so that its use can be seen */
	end(kc);
	return (0);
}

/* Which kstats there are, and no more: the text of their lines. */
static char *
heads(const char *text)
{
	char *found = calloc(1, strlen(text) + 2), *at = (char *)text, line[512];

	while (next_line(&at, line, sizeof (line)) != NULL) {
		if (strncmp(line, "kstat ", 6) == 0)
			strcat(strcat(found, line), "\n");
	}
	return (found);
}

int32_t
kstat_chain_update(kstat_ctl_t *kc)
{
	char *text, *now, *then;
	int32_t result = -1;

	if (begin(kc, "kstat_chain_update") == 0) {
		must(kc->open == 1, "a closed handle is updated");
		if ((text = kernel()) != NULL) {
			now = heads(text);
			then = heads(kc->text);
			result = 0;
			if (strcmp(now, then) != 0) {
				forget_chain(kc);
				free(kc->text);
				kc->text = strdup(text);
				make_chain(kc);
				result = kc->kc_chain_id;
			}
			free(now);
			free(then);
			free(text);
		}
	}
	end(kc);
	return (result);
}

kstat_t *
kstat_lookup(kstat_ctl_t *kc, char *module, int instance, char *name)
{
	kstat_t *ksp = NULL;

	if (begin(kc, "kstat_lookup") == 0) {
		must(kc->open == 1, "a closed handle is searched");
		for (ksp = kc->kc_chain; ksp != NULL; ksp = ksp->ks_next) {
			if ((module == NULL || strcmp(module, ksp->ks_module) == 0) &&
			    (instance == -1 || instance == ksp->ks_instance) &&
			    (name == NULL || strcmp(name, ksp->ks_name) == 0))
				break;
		}
	}
	end(kc);
	return (ksp);
}

static void
set_value(kstat_named_t *named, const char *value, char **text)
{
	switch (named->data_type) {
	case 0:
		strncpy(named->value.c, value, 16);
		break;
	case 1:
		named->value.i32 = strtoll(value, NULL, 10);
		break;
	case 2:
		named->value.ui32 = strtoull(value, NULL, 10);
		break;
	case 3:
		named->value.i64 = strtoll(value, NULL, 10);
		break;
	case 4:
		named->value.ui64 = strtoull(value, NULL, 10);
		break;
	default:
		strcpy(*text, value);
		named->value.str.addr = *text;
		named->value.str.len = strlen(value) + 1;
		*text += strlen(value) + 1;
	}
}

/* What the lines at `at` say of the kstat, up to the next one. */
static void
fill(kstat_t *ksp, char *at)
{
	char line[512], field[32], *text, *first = at, *value;
	kstat_named_t *named;
	long long number;
	size_t texts = 0;
	int n = 0, type;

	while (next_line(&at, line, sizeof (line)) != NULL && strncmp(line, "kstat ", 6) != 0) {
		if (strncmp(line, "stat ", 5) == 0) {
			n++;
			texts += strlen(line);
		}
	}
	if (ksp->ks_data != NULL)
		spoil(ksp->ks_data, (size_t)ksp->ks_kernel[0]);
	ksp->ks_ndata = n;
	ksp->ks_data_size = n * sizeof (kstat_named_t) + texts;
	ksp->ks_data = calloc(1, ksp->ks_data_size + 1);
	ksp->ks_kernel[0] = (void *)(ksp->ks_data_size + 1);
	named = ksp->ks_data;
	text = (char *)(named + n);
	for (at = first; next_line(&at, line, sizeof (line)) != NULL && strncmp(line, "kstat ", 6) != 0; ) {
		if (sscanf(line, "stat %d %31s", &type, field) == 2) {
			snprintf(named->name, 31, "%s", field);
			named->data_type = type;
			value = strstr(line + 5, field) + strlen(field);
			set_value(named, *value == ' ' ? value + 1 : value, &text);
			named++;
		} else if (sscanf(line, "lie %31s %lld", field, &number) == 2) {
			if (strcmp(field, "ndata") == 0)
				ksp->ks_ndata = number;
			else if (strcmp(field, "data_size") == 0)
				ksp->ks_data_size = number;
			else if (strcmp(field, "text") == 0)
				named[-1].value.str.addr = (char *)number;
			else if (strcmp(field, "length") == 0)
				named[-1].value.str.len = number;
			else if (strcmp(field, "data") == 0) {
				spoil(ksp->ks_data, (size_t)ksp->ks_kernel[0]);
				ksp->ks_data = NULL;
			}
		}
	}
}

int32_t
kstat_read(kstat_ctl_t *kc, kstat_t *ksp, void *unused)
{
	char line[512], *text, *at;
	int32_t result = -1;
	kstat_t *each;
	int kid, found = 0;

	if (begin(kc, "kstat_read") == 0) {
		must(kc->open == 1, "a closed handle is read from");
		for (each = kc->kc_chain; each != NULL; each = each->ks_next)
			found |= each == ksp;
		must(found, "a kstat is read that is not in the chain");
		must(unused == NULL, "a buffer is given");
		errno = ENXIO;
		text = at = kernel();
		while (at != NULL && next_line(&at, line, sizeof (line)) != NULL) {
			if (sscanf(line, "kstat %d ", &kid) == 1 && kid == ksp->ks_kid) {
				fill(ksp, at);
				result = kc->kc_chain_id;
			}
		}
		free(text);
	}
	end(kc);
	return (result);
}

void *
kstat_data_lookup(kstat_t *ksp, char *name)
{
	kstat_named_t *named = ksp->ks_data;
	uint32_t n;

	for (n = 0; n < ksp->ks_ndata; n++) {
		if (strcmp(named[n].name, name) == 0)
			return (&named[n]);
	}
	return (NULL);
}
