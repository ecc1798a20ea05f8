/* SPDX-License-Identifier: MPL-2.0
 *
 * What link.c needs of a C library, by the system's calls alone, for x86-64 on Linux; elsewhere the library does it.
 * A library asks the processor for all its properties before main(), and under a hypervisor each answer takes
 * microseconds: two thirds of what a call of a tool costs.
 *
 * Always: what is here does what the C standard and POSIX say, as far as link.c uses it; errno is set likewise.
 * Less than the library: realpath() needs /proc; realloc() is for few and large pieces, each has pages of its own. */

#if !defined(__x86_64__) || !defined(__linux__)
#error "here the C library is used"
#endif

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

__asm__(".globl _start\n"
	"_start: xor %ebp, %ebp\n"
	"	mov (%rsp), %rdi\n"
	"	lea 8(%rsp), %rsi\n"
	"	and $-16, %rsp\n"
	"	call main\n"
	"	mov %eax, %edi\n"
	"	call _exit\n");

static int error_number;

int *__errno_location(void)
{
	return &error_number;
}

static long call(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	if (result >= 0 || result < -4095)
		return result;
	errno = (int)-result;
	return -1;
}

#define CALL(number, ...) CALL_OF(number, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define CALL_OF(number, a, b, c, d, e, f, ...) \
	call(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

void _exit(int status)
{
	for (;;)
		CALL(SYS_exit_group, status);
}

int open(const char *path, int flags, ...)
{
	return (int)CALL(SYS_open, path, flags);
}

int close(int descriptor)
{
	return (int)CALL(SYS_close, descriptor);
}

ssize_t read(int descriptor, void *into, size_t size)
{
	return CALL(SYS_read, descriptor, into, size);
}

ssize_t write(int descriptor, const void *from, size_t size)
{
	return CALL(SYS_write, descriptor, from, size);
}

int access(const char *path, int mode)
{
	return (int)CALL(SYS_access, path, mode);
}

pid_t getpid(void)
{
	return (pid_t)CALL(SYS_getpid);
}

int kill(pid_t pid, int number)
{
	return (int)CALL(SYS_kill, pid, number);
}

int nanosleep(const struct timespec *duration, struct timespec *left)
{
	return (int)CALL(SYS_nanosleep, duration, left);
}

int socket(int domain, int type, int protocol)
{
	return (int)CALL(SYS_socket, domain, type, protocol);
}

int connect(int descriptor, const struct sockaddr *where, socklen_t size)
{
	return (int)CALL(SYS_connect, descriptor, where, size);
}

ssize_t send(int descriptor, const void *from, size_t size, int flags)
{
	return CALL(SYS_sendto, descriptor, from, size, flags);
}

ssize_t recv(int descriptor, void *into, size_t size, int flags)
{
	return CALL(SYS_recvfrom, descriptor, into, size, flags);
}

/* The kernel's own structure: handler, flags, restorer, mask. Only for SIG_DFL and SIG_IGN, which return nowhere. */
__sighandler_t signal(int number, __sighandler_t handler)
{
	unsigned long action[4] = {(unsigned long)handler, 0, 0, 0}, before[4] = {0, 0, 0, 0};

	if (CALL(SYS_rt_sigaction, number, action, before, sizeof action[3]) < 0)
		return SIG_ERR;
	return (__sighandler_t)before[0];
}

void *memset(void *into, int byte, size_t size)
{
	for (char *at = into; size > 0; size--)
		*at++ = (char)byte;
	return into;
}

void *memcpy(void *into, const void *from, size_t size)
{
	for (size_t at = 0; at < size; at++)
		((char *)into)[at] = ((const char *)from)[at];
	return into;
}

size_t strlen(const char *text)
{
	size_t size = 0;

	while (text[size] != '\0')
		size++;
	return size;
}

char *stpcpy(char *into, const char *text)
{
	while ((*into = *text++) != '\0')
		into++;
	return into;
}

char *strrchr(const char *text, int wanted)
{
	const char *found = NULL;

	for (; *text != '\0'; text++)
		if (*text == (char)wanted)
			found = text;
	return (char *)found;
}

char *realpath(const char *path, char *into)
{
	char link[] = "/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0";
	int descriptor = open(path, O_PATH | O_CLOEXEC), digits = 1;
	long size;

	if (descriptor < 0)
		return NULL;
	for (int rest = descriptor; rest >= 10; rest /= 10)
		digits++;
	for (int rest = descriptor; digits > 0; rest /= 10)
		link[sizeof "/proc/self/fd/" - 2 + digits--] = (char)('0' + rest % 10);
	size = CALL(SYS_readlink, link, into, PATH_MAX - 1);
	close(descriptor);
	if (size < 0)
		return NULL;
	into[size] = '\0';
	return into;
}

void *realloc(void *old, size_t size)
{
	size_t *block = old ? (size_t *)old - 2 : NULL, wanted = size + 2 * sizeof *block;
	long pages = old ? CALL(SYS_mremap, block, *block, wanted, MREMAP_MAYMOVE)
			 : CALL(SYS_mmap, NULL, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	if (pages == -1)
		return NULL;
	block = (size_t *)pages;
	*block = wanted;
	return block + 2;
}

char *strerror(int number)
{
	switch (number) {
	case ENOENT:
		return "No such file or directory";
	case EACCES:
		return "Permission denied";
	case EAGAIN:
		return "Resource temporarily unavailable";
	case EPIPE:
		return "Broken pipe";
	case ECONNRESET:
		return "Connection reset by peer";
	case ECONNREFUSED:
		return "Connection refused";
	case EBADF:
		return "Bad file descriptor";
	case ENOSPC:
		return "No space left on device";
	}
	return "an error that has no name here";
}
