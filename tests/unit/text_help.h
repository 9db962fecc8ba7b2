/* text_help.h - the real vocabulary and a tiny one, for the tests of text/. */
#ifndef QVL_TESTS_TEXT_HELP_H
#define QVL_TESTS_TEXT_HELP_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"

/* The unpacked tokenizer.json of the Qwen3 family; it is kept packed (1.4 MB instead of 11) and unpacked by the xz program.
 * NULL when that is not installed. Release with free. */
static inline char *read_qwen_json(size_t *len)
{
    FILE *f = popen("xz -dc '" QVL_SOURCE_DIR "/tests/data/qwen-tokenizer/tokenizer.json.xz'", "r");
    size_t cap = 16 << 20, n = 0;
    char *text = malloc(cap);
    if (f && text)
        n = fread(text, 1, cap, f);
    if (!f || pclose(f) != 0 || n < 10000000 || n == cap) {
        free(text);
        return NULL;
    }
    *len = n;
    return text;
}

/* A byte-level tokenizer.json (release with qvl_mem_free) with the given pieces: vocab and merges are JSON texts that follow
 * the 256 bytes ("" for none), added the list of added tokens. Bytes have the ids 0..255 in the order of their code points
 * in the alphabet. */
static inline char *small_json(const char *vocab, const char *merges, const char *added, size_t *len)
{
    struct qvl_buf b;
    qvl_buf_init(&b, 1 << 24);
    qvl_buf_puts(&b,
                 "{\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":"
                 "\"Split\",\"pattern\":{\"Regex\":");
    qvl_json_quote(&b, QVL_PRETOKENIZE_REGEX, strlen(QVL_PRETOKENIZE_REGEX));
    qvl_buf_puts(&b, "},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                     "\"use_regex\":false}]},\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{");
    int id = 0;
    for (unsigned c = 33; c < 0x144; c++) {
        if (c == 127)
            c = 161;
        if (c == 173)
            c = 174;
        qvl_buf_printf(&b, "%s\"\\u%04x\": %d", id ? "," : "", c, id);
        id++;
    }
    qvl_buf_printf(&b, "%s},\"merges\":[%s]},\"added_tokens\":[%s]}", vocab, merges, added);
    return qvl_buf_take(&b, len);
}

static inline int parse_small(struct qvl_tokenizer **t, const char *vocab, const char *merges, const char *added,
                              qvl_err *err)
{
    size_t len;
    char *json = small_json(vocab, merges, added, &len);
    int rc = qvl_tokenizer_parse(t, json, len, "small", err);
    qvl_mem_free(json);
    return rc;
}

#endif
