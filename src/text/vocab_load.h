/* vocab_load.h - filling a struct qvl_tokenizer: vocab.c has the steps, tokenizer_file.c their order in each file form. */
#ifndef QVL_TEXT_VOCAB_LOAD_H
#define QVL_TEXT_VOCAB_LOAD_H

#include "base/json.h"
#include "text/vocab.h"

enum {
    QVL_VOCAB_MAX_IDS = 1 << 22,
    QVL_VOCAB_MAX_MERGES = 1 << 22,
    QVL_VOCAB_MAX_TOKEN = 1 << 16, /* bytes of one token */
    QVL_VOCAB_MAX_ADDED = 1024,    /* bytes of one added token */
    QVL_VOCAB_ALPHABET = 0x144     /* code points of the byte alphabet are below */
};

struct qvl_vocab_loader {
    struct qvl_tokenizer *t;
    const char *what; /* names the source in messages */
    qvl_err *err;
    int16_t byte_of[QVL_VOCAB_ALPHABET]; /* code point of the alphabet -> byte, -1 */
    size_t cap_ids;
    int32_t *slot; /* open addressing: bytes of an ordinary token -> id; -1 = empty */
    size_t mask;
    struct qvl_buf a, b;        /* strings as the file has them: a token, or the two sides of a merge */
    struct qvl_buf left, right; /* the sides as bytes */
};

/* A list inside a JSON text, not checked yet. */
struct qvl_vocab_list {
    const char *json;
    size_t at, len;  /* at: where json stands in the file */
    size_t n_commas; /* of the list itself: one less than its elements if it is well-formed */
};

int qvl_vocab_begin(struct qvl_vocab_loader *l, const char *what, qvl_err *err);
/* Sorts the added tokens, frees the scratch, and hands the tokenizer over; rc < 0 closes it instead. Returns rc. */
int qvl_vocab_finish(struct qvl_vocab_loader *l, struct qvl_tokenizer **out, int rc);

/* In this order. The texts are JSON: {"token": id, ...}, and a list of "left right" or ["left", "right"]. */
int qvl_vocab_load_tokens(struct qvl_vocab_loader *l, const struct qvl_vocab_list *list, const char *field);
int qvl_vocab_load_merges(struct qvl_vocab_loader *l, const struct qvl_vocab_list *list);
/* merges.txt: one pair a line, the first line may be a "#version" note. */
int qvl_vocab_load_merge_lines(struct qvl_vocab_loader *l, const char *text, size_t len);
/* added_tokens of tokenizer.json (a list, or NULL) and added_tokens_decoder of tokenizer_config.json (an object, or NULL).
 */
int qvl_vocab_load_added(struct qvl_vocab_loader *l, const json_t *list);
int qvl_vocab_load_added_decoder(struct qvl_vocab_loader *l, json_t *map);

#endif
