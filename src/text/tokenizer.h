/* tokenizer.h - byte-level BPE as the reference's tokenizer.json describes it (section 8 of the model notes). */
#ifndef QVL_TEXT_TOKENIZER_H
#define QVL_TEXT_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "qvl.h"

struct qvl_tokenizer; /* immutable, shareable between threads */

/* tokenizer.json (merges as "a b" or ["a","b"]), or vocab.json + merges.txt + tokenizer_config.json. A pipeline other than
 * that of the Qwen family, or an added token that is matched as a single word, is QVL_E_UNSUPPORTED. */
int qvl_tokenizer_open(struct qvl_tokenizer **out, const char *dir, qvl_err *err);
/* From the text of a tokenizer.json: for tests and fuzzing. */
int qvl_tokenizer_parse(struct qvl_tokenizer **out, const char *json, size_t len, const char *what, qvl_err *err);
void qvl_tokenizer_close(struct qvl_tokenizer **t);

/* Growable list of token ids. */
struct qvl_ids {
    int32_t *id; /* from qvl_alloc */
    size_t n, cap;
};
int qvl_ids_add(struct qvl_ids *ids, int32_t id, qvl_err *err);
void qvl_ids_free(struct qvl_ids *ids);

/* Which added tokens may be recognised in a stretch of text. */
enum qvl_trust {
    QVL_TRUST_NONE = 0,    /* typed by a user: none */
    QVL_TRUST_PLAIN_ADDED, /* written by the model: added tokens that are not special (<think>, <tool_call>) */
    QVL_TRUST_ALL          /* template text, and `qvl tokenize` */
};
/* Text made of consecutive stretches; the text is tokenised as one string (NFC and pre-tokenisation run across the
 * seams), but an added token counts only when it lies entirely inside stretches that allow it. */
struct qvl_stretch {
    size_t len;
    enum qvl_trust trust;
};

/* Appends the ids of text, whose stretches must add up to len; n_stretches = 0 means one stretch of QVL_TRUST_NONE. Time is
 * linear in len (times its logarithm for a word without end). Invalid UTF-8 is replaced as Python's errors="replace" does.
 * On failure out is as it was. */
int qvl_tokenizer_encode(const struct qvl_tokenizer *t, const char *text, size_t len, const struct qvl_stretch *stretches,
                         size_t n_stretches, struct qvl_ids *out, qvl_err *err);

/* Raw bytes of one token, borrowed; added tokens give their text. NULL for ids without text (padding rows). */
const char *qvl_tokenizer_bytes(const struct qvl_tokenizer *t, int32_t id, size_t *len);
int qvl_tokenizer_is_special(const struct qvl_tokenizer *t, int32_t id); /* special = true added tokens */
int qvl_tokenizer_has_text(const struct qvl_tokenizer *t, int32_t id);
int32_t qvl_tokenizer_size(const struct qvl_tokenizer *t);                    /* largest id + 1 */
int32_t qvl_tokenizer_find(const struct qvl_tokenizer *t, const char *token); /* added token by text; -1 */

/* Incremental decoding: bytes come out only in complete UTF-8 characters, invalid ones as U+FFFD the way Python's
 * bytes.decode(errors="replace") does. */
struct qvl_utf8_stream {
    unsigned char tail[4];
    int n;
};
/* Appends to a fixed buffer of at least 3*len + 16 bytes; returns the number of bytes written. No allocation. */
size_t qvl_utf8_push(struct qvl_utf8_stream *s, char *out, const char *bytes, size_t len);
size_t qvl_utf8_flush(struct qvl_utf8_stream *s, char *out);

#endif
