/* A GGUF file in memory. Whatever is accepted must keep its promises: views inside the file, sizes that fit the shapes, lists that
 * end where they say; every block decodes; and a model's configuration is read from it or refused. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "formats/ggml_blocks.h"
#include "formats/gguf.h"
#include "model/gguf_parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
    if (!ok)
        abort();
}

/* Decodes the first block of a tensor; returns its size in bytes x elements for the check of the whole. */
static void check_tensor(const struct qvl_tensors *set, const struct qvl_tensor *t, const uint8_t *data, size_t size)
{
    const struct qvl_ggml_type *type = qvl_ggml_type_of(t->type);
    char text[256];
    require(qvl_tensors_find(set, t->name) == t);
    require(t->rank >= 0 && t->rank <= 4 && strlen(t->name) < 64);
    require(t->offset <= size && t->bytes <= size - t->offset && t->data == data + t->offset);
    require(strlen(qvl_tensor_describe(t, text, sizeof text)) < sizeof text);
    if (!type)
        return;
    uint64_t n = 1;
    for (int k = 0; k < t->rank; k++)
        n *= (uint64_t)t->shape[k];
    require(n / type->elems * type->bytes == t->bytes);
    for (uint64_t i = 0; type->to_f32 && i < n; i += type->elems) {
        float out[256];
        type->to_f32(out, (const unsigned char *)t->data + i / type->elems * type->bytes, type->elems);
    }
}

static void check_config(const struct qvl_gguf *g)
{
    struct qvl_config c = {0};
    const char *arch;
    qvl_err err = {0};
    if (qvl_gguf_text_arch(g, &arch, &err) == 0 && qvl_gguf_config_text(&c, g, arch, &err) == 0) {
        require(c.text.n_layer > 0 && c.text.n_head % c.text.n_kv == 0 && c.text.d_head % 4 == 0);
        require(c.image_token < c.text.n_vocab && c.video_token < c.text.n_vocab);
        if (qvl_gguf_config_vision(&c, g, arch, qvl_gguf_single(g, arch), &err) == 0)
            require(c.vision.d_out == c.text.d_model && c.vision.n_tap <= QVL_MAX_TAPS && c.vision.n_pos_side > 0);
    }
    qvl_config_free(&c);
    c = (struct qvl_config){.text = {.d_model = 64}};
    (void)qvl_gguf_config_vision(&c, g, "qwen3vl", 0, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qvl_gguf *g = NULL;
    struct qvl_gguf_list list;
    struct qvl_gguf_text s;
    qvl_err err = {0};
    const char *key, *value;
    int rc = qvl_gguf_open_memory(&g, data, size, "fuzz", &err);
    require((rc == 0) == (g != NULL) && rc == err.code);
    if (rc) {
        require(err.msg[0] != 0);
        return 0;
    }
    const struct qvl_tensors *set = qvl_gguf_tensors(g);
    for (size_t i = 0; i < qvl_tensors_count(set); i++)
        check_tensor(set, qvl_tensors_at(set, i), data, size);
    for (size_t i = 0; (key = qvl_tensors_meta_at(set, i, &value)) != NULL; i++) {
        int64_t n;
        double x = 0;
        require(qvl_gguf_has(g, key) && strlen(value) < 256);
        (void)qvl_gguf_int(g, key, INT64_MIN, INT64_MAX, 0, &n, &err);
        (void)qvl_gguf_real(g, key, -1e300, 1e300, &x, &err);
        (void)qvl_gguf_string(g, key, &s, &err);
        size_t total = 0;
        if (qvl_gguf_strings(g, key, &list, &err) == 0)
            while (qvl_gguf_next(&list, &s))
                total += s.len;
        require(total <= size && list.left == 0 && list.at == list.end);
    }
    check_config(g);
    qvl_gguf_close(&g);
    return 0;
}
