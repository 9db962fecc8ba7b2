/* hub_server.h - a small model hub on two ports of this machine, with the faults that real ones have.
 *
 * It serves repositories from a folder: ROOT/ORG/NAME/FILE. Files of more than LFS_BYTES, and *.safetensors, are in large-file
 * storage: the first port answers with a redirect to the second, as hubs do with their stores. Hashes come from the system's
 * sha256sum and sha1sum. */
#ifndef QVL_TESTS_CLI_HUB_SERVER_H
#define QVL_TESTS_CLI_HUB_SERVER_H

#include <stddef.h>

#define HUB_COMMIT "0123456789abcdef0123456789abcdef01234567"

enum hub_fault {
    HUB_FINE,
    HUB_CUT,          /* half of what was asked for, then the connection is closed */
    HUB_IGNORE_RANGE, /* always the whole file with status 200 */
    HUB_WRONG_RANGE,  /* 206 that begins one byte late */
    HUB_FLIP,         /* one byte of the content is wrong */
    HUB_STALL,        /* half, then silence */
    HUB_LONGER,       /* Content-Length and content are longer than announced */
    HUB_ENDLESS,      /* no Content-Length, content without end */
    HUB_STATUS        /* `status` instead of the file */
};

struct hub_rule {
    const char *repo, *file; /* file NULL: the list of files */
    enum hub_fault fault;
    int times;               /* how often it happens; -1 = always */
    int status;
    const char *headers;     /* further header lines, each with \r\n, or NULL */
    int store_only;          /* on the second port */
};

struct hub_request {
    int store;               /* 1: second port */
    char method[8], path[512], authorization[128], range[64];
    int status;
};

struct hub;
/* Serves `root`. */
struct hub *hub_start(const char *root);
void hub_stop(struct hub *h);
int hub_port(const struct hub *h);
enum { HUB_RULES = 4 };
/* Rule number i, copied and counted down. */
void hub_set_rule(struct hub *h, size_t i, const struct hub_rule *rule);
/* Answers the list of files of `repo` with this text instead. */
void hub_set_listing(struct hub *h, const char *repo, const char *text);
/* Bytes a second and connection; 0 = as fast as it goes. */
void hub_set_rate(struct hub *h, size_t bytes_per_second);
/* What was answered so far; *list is valid until the next call. */
size_t hub_requests(struct hub *h, const struct hub_request **list);
/* No requests, no rules. */
void hub_forget(struct hub *h);

#endif
