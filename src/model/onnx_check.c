/* onnx_check.c - genai_config.json -> file names; what an export says about the model against the model's configuration.
 *
 * Both describe the same decoder. Where they disagree one of them belongs to another model, and answers would be noise. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/half.h"
#include "base/mem.h"
#include "model/config_read.h"
#include "model/onnx_model.h"
#include "model/onnx_parts.h"

#define MAX_CONFIG_BYTES (16u << 20)

/* ---- genai_config.json ---- */

static int agree(const struct qvl_fields *f, const char *key, int expected)
{
    int64_t v;
    QVL_TRY(qvl_field_int(f, key, 0, INT32_MAX, -1, &v));
    if (v == -1 || v == expected)
        return 0;
    return qvl_fail(f->err, QVL_E_FORMAT, "%s: %s: found %lld, but the model's config.json has %d", f->name, key, (long long)v, expected);
}

static int check_type(const struct qvl_fields *model)
{
    static const char *const known[] = {"qwen3_vl", "qwen3vl", "qwen3_vl_text", "qwen3"};
    const char *type;
    QVL_TRY(qvl_field_string(model, "type", &type));
    if (!type)
        return qvl_field_missing(model, "type");
    for (size_t i = 0; i < QVL_COUNT(known); i++)
        if (!strcmp(type, known[i]))
            return 0;
    return qvl_fail(model->err, QVL_E_UNSUPPORTED, "%s: type: found \"%s\", expected qwen3_vl, qwen3_vl_text or qwen3", model->name, type);
}

/* A plain file name of a section, NULL when absent. */
static int file_name(const struct qvl_fields *section, char **out)
{
    const char *name;
    *out = NULL;
    QVL_TRY(qvl_field_string(section, "filename", &name));
    if (!name || !*name)
        return 0;
    if (!qvl_onnx_plain_name(name))
        return qvl_fail(section->err, QVL_E_FORMAT, "%s: filename: found \"%s\", expected the name of a file in the folder", section->name,
                        name);
    *out = qvl_strdup(name);
    return *out ? 0 : qvl_fail_nomem(section->err, strlen(name), "file name");
}

static int read_config(const json_t *root, const char *what, const struct qvl_text_config *c, char **decoder, char **embedding, qvl_err *err)
{
    struct qvl_fields top = {.obj = root, .name = what, .err = err}, model, d, e;
    char names[3][160];
    QVL_TRY(qvl_field_object(&top, "model", &model, names[0], sizeof names[0]));
    if (!model.obj)
        return qvl_field_missing(&top, "model");
    QVL_TRY(check_type(&model));
    QVL_TRY(agree(&model, "vocab_size", c->n_vocab));
    QVL_TRY(qvl_field_object(&model, "decoder", &d, names[1], sizeof names[1]));
    if (!d.obj)
        return qvl_field_missing(&model, "decoder");
    QVL_TRY(agree(&d, "hidden_size", c->d_model));
    QVL_TRY(agree(&d, "head_size", c->d_head));
    QVL_TRY(agree(&d, "num_attention_heads", c->n_head));
    QVL_TRY(agree(&d, "num_key_value_heads", c->n_kv));
    QVL_TRY(agree(&d, "num_hidden_layers", c->n_layer));
    QVL_TRY(file_name(&d, decoder));
    if (!*decoder)
        return qvl_field_missing(&d, "filename");
    QVL_TRY(qvl_field_object(&model, "embedding", &e, names[2], sizeof names[2]));
    return file_name(&e, embedding);
}

int qvl_genai_config_parse(const char *text, size_t len, const char *what, const struct qvl_text_config *c, char **decoder,
                           char **embedding, qvl_err *err)
{
    json_t *root;
    *decoder = *embedding = NULL;
    QVL_TRY(qvl_json_parse(&root, text, len, what, err));
    int rc = json_is_object(root) ? read_config(root, what, c, decoder, embedding, err)
                                  : qvl_fail(err, QVL_E_FORMAT, "%s: expected a JSON object", what);
    json_decref(root);
    if (rc < 0) {
        qvl_mem_free(*decoder);
        qvl_mem_free(*embedding);
        *decoder = *embedding = NULL;
    }
    return rc;
}

/* Folder of a path that may be a file in it; from qvl_alloc. */
static char *folder_of(const char *path)
{
    const char *base = qvl_path_base(path);
    if (qvl_dir_exists(path))
        return qvl_strdup(path);
    return base == path ? qvl_strdup(".") : qvl_strndup(path, (size_t)(base - path));
}

static int files_in(const char *dir, const char *path, const struct qvl_text_config *c, char **decoder, char **embedding, qvl_err *err)
{
    char *config = qvl_path_join(dir, "genai_config.json"), *text = NULL, *a = NULL, *b = NULL;
    size_t len;
    int rc = config ? qvl_file_read(&text, &len, config, MAX_CONFIG_BYTES, err) : qvl_fail_nomem(err, strlen(dir), "path");
    if (rc == QVL_E_NOTFOUND)
        rc = qvl_fail(err, rc, "%s: no genai_config.json: this is no folder of ONNX Runtime GenAI", dir);
    if (rc == 0)
        rc = qvl_genai_config_parse(text, len, config, c, &a, &b, err);
    if (rc == 0) {
        *decoder = qvl_dir_exists(path) ? qvl_path_join(dir, a) : qvl_strdup(path);
        *embedding = b ? qvl_path_join(dir, b) : NULL;
        if (!*decoder || (b && !*embedding))
            rc = qvl_fail_nomem(err, strlen(dir), "path");
    }
    if (rc == 0 && *embedding && !qvl_file_exists(*embedding)) { /* the model's own will do */
        qvl_mem_free(*embedding);
        *embedding = NULL;
    }
    qvl_mem_free(a);
    qvl_mem_free(b);
    qvl_mem_free(text);
    qvl_mem_free(config);
    return rc;
}

int qvl_genai_files(const char *path, const struct qvl_text_config *c, char **decoder, char **embedding, qvl_err *err)
{
    char *dir = folder_of(path);
    *decoder = *embedding = NULL;
    if (!dir)
        return qvl_fail_nomem(err, strlen(path), "path");
    int rc = files_in(dir, path, c, decoder, embedding, err);
    qvl_mem_free(dir);
    return rc;
}

int qvl_onnx_model_is(const char *path)
{
    size_t n = strlen(path);
    if (!qvl_dir_exists(path))
        return n > 5 && !strcmp(path + n - 5, ".onnx");
    char *config = qvl_path_join(path, "genai_config.json");
    int is = config && qvl_file_exists(config);
    qvl_mem_free(config);
    return is;
}

/* ---- the graph ---- */

static int differs(const struct qvl_onnx *o, const struct qvl_onnx_node *n, const char *key, double found, double expected, qvl_err *err)
{
    return qvl_fail(err, QVL_E_FORMAT, "%s: node %s: %s: found %.9g, but the model's config.json has %.9g",
                    qvl_tensors_path(qvl_onnx_tensors(o)), n->name, key, found, expected);
}

static int check_int(const struct qvl_onnx *o, const struct qvl_onnx_node *n, const char *key, int expected, qvl_err *err)
{
    int64_t v = qvl_onnx_attr_int(n, key, 0); /* 0 is written for "not given" */
    return v == 0 || v == expected ? 0 : differs(o, n, key, (double)v, expected, err);
}

static int check_sections(const struct qvl_onnx *o, const struct qvl_onnx_node *n, const struct qvl_text_config *c, qvl_err *err)
{
    const struct qvl_onnx_attr *a = qvl_onnx_attr(n, "mrope_section");
    for (int i = 0; a && a->n_ints == 3 && i < 3; i++)
        if (a->ints[i] != c->rope_section[i])
            return differs(o, n, "mrope_section", (double)a->ints[i], c->rope_section[i], err);
    return 0;
}

int qvl_onnx_check_node(const struct qvl_onnx *o, const struct qvl_onnx_node *n, const struct qvl_text_config *c, qvl_err *err)
{
    if (strstr(n->op, "LayerNormalization") || !strcmp(n->op, "RMSNormalization")) {
        const struct qvl_onnx_attr *e = qvl_onnx_attr(n, "epsilon");
        if (e && e->has_f && !(fabs((double)e->f - c->rms_eps) <= 1e-6 * c->rms_eps))
            return differs(o, n, "epsilon", (double)e->f, c->rms_eps, err);
    }
    if (!strcmp(n->op, "GroupQueryAttention")) {
        QVL_TRY(check_int(o, n, "num_heads", c->n_head, err));
        QVL_TRY(check_int(o, n, "kv_num_heads", c->n_kv, err));
    }
    return !strcmp(n->op, "MRotaryEmbedding") ? check_sections(o, n, c, err) : 0;
}

static double value_at(const struct qvl_tensor *t, size_t i)
{
    const unsigned char *p = t->data;
    uint16_t h;
    float f;
    if (t->type == QVL_DT_F32) {
        memcpy(&f, p + 4 * i, 4);
        return f;
    }
    memcpy(&h, p + 2 * i, 2);
    return t->type == QVL_DT_F16 ? qvl_f16_to_f32(h) : qvl_bf16_to_f32(h);
}

/* The frequency of the pair in the middle is theta^(-1/2): sin_cache has its sine at position 1. */
int qvl_onnx_check_rotation(const struct qvl_onnx *o, const struct qvl_text_config *c, qvl_err *err)
{
    const struct qvl_tensor *t = qvl_tensors_find(qvl_onnx_tensors(o), "sin_cache");
    const int64_t half = c->d_head / 2, middle = c->d_head / 4;
    if (!t || c->rope_factor != 1 || c->d_head % 4 || t->rank != 2 || t->shape[0] < 2 || t->shape[1] != half ||
        (t->type != QVL_DT_F32 && t->type != QVL_DT_F16 && t->type != QVL_DT_BF16))
        return 0;
    double want = sin(pow(c->rope_theta, -0.5)), found = value_at(t, (size_t)(half + middle));
    if (fabs(found - want) <= want * (t->type == QVL_DT_F32 ? 1e-4 : 2e-2))
        return 0;
    return qvl_fail(err, QVL_E_FORMAT, "%s: sin_cache: is of rope_theta %.9g, but the model's config.json has %.9g",
                    qvl_tensors_path(qvl_onnx_tensors(o)), pow(asin(found), -2), c->rope_theta);
}
