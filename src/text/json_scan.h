/* json_scan.h - reading the two big lists of a tokenizer.json without building a tree of 600,000 values. */
#ifndef QVL_TEXT_JSON_SCAN_H
#define QVL_TEXT_JSON_SCAN_H

#include <stddef.h>

#include "base/buf.h"

struct qvl_scan {
    const char *s;
    size_t n, at;
};

/* Skips white space and, if the next byte is c, that too. Returns whether it was. */
int qvl_scan_take(struct qvl_scan *c, char byte);
/* Skips white space; returns whether the text ends there. */
int qvl_scan_end(struct qvl_scan *c);
/* Reads a string and appends what it stands for to out. Returns 0, or -1: not a well-formed string (lone surrogates and
 * \u0000 are not accepted either). Memory: out->failed. */
int qvl_scan_string(struct qvl_scan *c, struct qvl_buf *out);
/* Reads an integer of at most 9 digits. Returns 0 or -1. */
int qvl_scan_int(struct qvl_scan *c, long *value);
/* Steps over one value, following strings and brackets only: whoever uses the text checks it. *n_commas (may be NULL) is the
 * number of commas on the value's own level. Returns 0 or -1 at the end of the text or beyond 64 levels. */
int qvl_scan_skip(struct qvl_scan *c, size_t *n_commas);
/* Behind the { or , of an object: reads a name and its colon. *key is the name as written, escapes and all. 0 or -1. */
int qvl_scan_key(struct qvl_scan *c, const char **key, size_t *len);

#endif
