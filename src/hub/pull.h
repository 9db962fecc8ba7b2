/* pull.h - what the files of a download share. pull.c chooses and distributes, pull_file.c fetches one file. */
#ifndef QVL_HUB_PULL_H
#define QVL_HUB_PULL_H

#include <pthread.h>
#include <stdatomic.h>

#include "hub/http.h"
#include "hub/hub.h"
#include "hub/listing.h"

enum { QVL_ETAG = 256 };

struct qvl_pull_item {
    const struct qvl_listing_file *file;
    uint64_t size;
    char etag[QVL_ETAG];        /* name of the blob */
    char *blob, *part;          /* blobs/ETAG, blobs/ETAG.incomplete */
    char *link;                 /* snapshots/COMMIT/PATH */
    int known;                  /* size, etag and paths are filled in */
    int present;                /* nothing to fetch */
    qvl_pull_status status;     /* valid when done */
    atomic_int done, waiting;
    atomic_uint_fast64_t have;  /* bytes on disk */
    int told, told_waiting;     /* of the thread that reports */
};

struct qvl_pull_job {
    struct qvl_hub_env env;
    struct qvl_hub_name name;
    const char *rev;            /* as asked for */
    struct qvl_listing listing;
    char *folder, *snapshot;    /* models--ORG--NAME, and snapshots/COMMIT in it */
    struct qvl_pull_item *items;
    size_t n;
    int force;
    atomic_int stop;
    atomic_size_t next;         /* item that no worker has taken */
    pthread_mutex_t lock;       /* of err */
    qvl_err err;                /* the first failure */
};

/* Makes the folders of a path; its last component only with `whole`. */
int qvl_pull_folders(const char *path, int whole, qvl_err *err);
/* An item with known size and etag gets its paths, and is looked for on the disk. */
int qvl_pull_place(struct qvl_pull_job *p, struct qvl_pull_item *it, qvl_err *err);
/* Asks the server for size and etag unless the listing and the disk make that needless. */
int qvl_pull_describe(struct qvl_pull_job *p, struct qvl_pull_item *it, struct qvl_http *h, qvl_err *err);
/* Fetches, checks and links one file. */
int qvl_pull_fetch(struct qvl_pull_job *p, struct qvl_pull_item *it, struct qvl_http *h, qvl_err *err);

/* Runs a request until its reply is no passing failure: back-off after broken connections, 408, 429 and 5xx. */
int qvl_pull_request(struct qvl_pull_job *p, struct qvl_http *h, const struct qvl_http_request *q, struct qvl_http_reply *r,
                     qvl_err *err);
/* A reply that may pass: worth another try. */
int qvl_pull_passing(const struct qvl_http_reply *r);
/* Sleeps before try number `tries` (1..) as long as the reply wishes (NULL: none came). QVL_E_CANCELLED when stopped,
 * QVL_E_LIMIT when the wish is too long. */
int qvl_pull_wait(struct qvl_pull_job *p, int tries, const struct qvl_http_reply *r, qvl_err *err);
/* The message for a reply with an error status. `path` may be NULL. */
int qvl_pull_refused(const struct qvl_pull_job *p, const struct qvl_http_reply *r, const char *path, qvl_err *err);

enum { QVL_PULL_TRIES = 5 };    /* failures in a row, without a byte gained, before giving up */

#endif
