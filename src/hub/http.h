/* http.h - one HTTP request at a time over libcurl, with what a hub's client has to be careful about: the token goes to the
 * endpoint's own scheme, host and port only; redirects are followed by hand; every size is bounded; silence ends a try. */
#ifndef QVL_HUB_HTTP_H
#define QVL_HUB_HTTP_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/buf.h"
#include "hub/hub.h"

enum { QVL_HTTP_URL = 8192 };
#define QVL_HTTP_UNKNOWN UINT64_MAX

/* Of the last reply of a request (after redirects); texts are cleaned of control characters, "" when absent. */
struct qvl_http_reply {
    long status;
    int foreign;             /* it came from another place than the endpoint */
    char host[256];          /* where it came from */
    uint64_t length;         /* Content-Length */
    uint64_t range_from, range_total; /* Content-Range "bytes FROM-TO/TOTAL" */
    uint64_t linked_size;    /* X-Linked-Size */
    char etag[256], linked_etag[256]; /* without W/ and quotes */
    char commit[64];         /* X-Repo-Commit */
    char error_code[64], error_text[256]; /* X-Error-Code, X-Error-Message */
    char location[QVL_HTTP_URL];
    long retry_after;        /* seconds; 0 = not said */
};

/* Takes a piece of the body of a reply that is no error. Non-zero ends the transfer: 1 quietly, a QVL_E_... code as a failure whose
 * message is in the request's err. */
typedef int (*qvl_http_sink)(void *ud, const struct qvl_http_reply *reply, const void *data, size_t len);

struct qvl_http_request {
    const char *url;
    int head;                /* HEAD instead of GET */
    int stay;                /* a redirect is handed back as the reply instead of being followed */
    uint64_t from;           /* > 0: "Range: bytes=FROM-" */
    int with_token;          /* send the token where it may go */
    long timeout_s;
    qvl_http_sink sink;      /* NULL: the body is dropped */
    void *ud;
};

struct qvl_http;
/* `stop` (may be NULL) ends a transfer within a second when it becomes non-zero. */
int qvl_http_open(struct qvl_http **h, const struct qvl_hub_env *env, atomic_int *stop, qvl_err *err);
void qvl_http_close(struct qvl_http **h);
/* 0 when a reply came, whatever its status. QVL_E_IO: no connection, broken connection, silence: worth another try.
 * QVL_E_CANCELLED: stop. Anything else is final. */
int qvl_http_run(struct qvl_http *h, const struct qvl_http_request *q, struct qvl_http_reply *reply, qvl_err *err);

/* Appends text with everything but letters, digits, "-._~" (and "/" when keep_slashes) percent-encoded. */
void qvl_http_escape(struct qvl_buf *b, const char *text, int keep_slashes);

#endif
