/* listing.h - the hub's description of a repository at one revision → its commit and files. */
#ifndef QVL_HUB_LISTING_H
#define QVL_HUB_LISTING_H

#include <stddef.h>
#include <stdint.h>

#include "base/sha.h"
#include "qvl.h"

#define QVL_LISTING_MAX_BYTES ((size_t)32 << 20)
#define QVL_SIZE_UNKNOWN UINT64_MAX

struct qvl_listing_file {
    char *path;                 /* checked: safe below the snapshot's folder */
    uint64_t size;              /* QVL_SIZE_UNKNOWN when not told */
    char sha256[QVL_SHA_HEX];   /* of a file in large-file storage, else "" */
    char git[QVL_SHA_HEX];      /* git's name of the blob (of the pointer, for large files), or "" */
};

struct qvl_listing {
    char commit[41];
    struct qvl_listing_file *files; /* sorted by path, no two alike */
    size_t n;
};

/* {"sha": COMMIT, "siblings": [{"rfilename", "size", "blobId", "lfs": {"sha256", "size"}}]}. `what` names the repository. */
int qvl_listing_parse(struct qvl_listing *l, const char *text, size_t len, const char *what, qvl_err *err);
void qvl_listing_free(struct qvl_listing *l);

#endif
