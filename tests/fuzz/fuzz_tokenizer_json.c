/* fuzz_tokenizer_json.c - any bytes as a tokenizer.json: refused with a message, or a tokenizer whose ids give the text
 * back. */
#include <stdint.h>

#include "unit/text_help.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct qvl_tokenizer *t)
{
    static const char text[] = "Hello, world! 123 <|im_end|> \xc3\xa9 ab abc abab \n";
    struct qvl_stretch st = {sizeof text - 1, QVL_TRUST_NONE};
    struct qvl_ids ids = {0};
    size_t at = 0, n;
    if (qvl_tokenizer_encode(t, text, sizeof text - 1, &st, 1, &ids, NULL) != 0)
        abort();
    for (size_t i = 0; i < ids.n; i++) {
        const char *s = qvl_tokenizer_bytes(t, ids.id[i], &n);
        if (!s || ids.id[i] >= qvl_tokenizer_size(t) || at + n > sizeof text - 1 || memcmp(s, text + at, n) != 0)
            abort();
        at += n;
    }
    if (at != sizeof text - 1)
        abort();
    st.trust = QVL_TRUST_ALL;
    if (qvl_tokenizer_encode(t, text, sizeof text - 1, &st, 1, &ids, NULL) != 0)
        abort();
    qvl_ids_free(&ids);
    for (int32_t i = -1; i <= qvl_tokenizer_size(t); i++)
        if (qvl_tokenizer_has_text(t, i) != (qvl_tokenizer_bytes(t, i, &n) != NULL))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qvl_tokenizer *t;
    qvl_err err = {0};
    int rc = qvl_tokenizer_parse(&t, (const char *)data, size, "input", &err);
    if (rc == 0)
        use(t);
    else if (t || !err.msg[0] || err.code != rc)
        abort();
    qvl_tokenizer_close(&t);
    return 0;
}
