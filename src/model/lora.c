/* lora.c - adapter_model.safetensors → a pair of matrices for each place of the decoder; shapes against the configuration.
 *
 * Names: "[base_model.model.]MODULE.lora_A[.ADAPTER].weight", MODULE in any of the spellings of names.c. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "model/lora.h"
#include "model/weights.h"

#define CONFIG_NAME "adapter_config.json"
#define WEIGHTS_NAME "adapter_model.safetensors"
enum { MAX_CONFIG = 16 << 20, MAX_NAME = 512 };

struct loading {
    struct qvl_lora *l;
    const struct qvl_text_config *c;
    struct qvl_lora_config config;
    double scale;
    const char *path; /* of the weights, for messages */
    qvl_err *err;
};

static const struct {
    const char *name;
    enum qvl_lora_place place;
} places[] = {{"self_attn.q_proj", QVL_LORA_Q}, {"self_attn.k_proj", QVL_LORA_K}, {"self_attn.v_proj", QVL_LORA_V},
              {"self_attn.o_proj", QVL_LORA_O}, {"mlp.gate_proj", QVL_LORA_GATE}, {"mlp.up_proj", QVL_LORA_UP},
              {"mlp.down_proj", QVL_LORA_DOWN}};

/* Shape of the matrix that is adapted. */
static void shape_of(const struct qvl_text_config *c, enum qvl_lora_place place, int64_t *n_out, int64_t *n_in)
{
    int64_t D = c->d_model, Q = (int64_t)c->n_head * c->d_head, K = (int64_t)c->n_kv * c->d_head;
    *n_in = place == QVL_LORA_O ? Q : place == QVL_LORA_DOWN ? c->d_ff : D;
    *n_out = place == QVL_LORA_Q                             ? Q
             : place == QVL_LORA_K || place == QVL_LORA_V    ? K
             : place == QVL_LORA_GATE || place == QVL_LORA_UP ? c->d_ff
                                                              : D;
}

/* ---------------------------------------------------------------- names */

/* MODULE and which half a tensor's name says; 0, or -1 when it is no such name. */
static int split_name(char module[MAX_NAME], int *is_b, const char *name)
{
    const char *s = strncmp(name, "base_model.model.", 17) == 0 ? name + 17 : name, *mark = NULL;
    for (const char *p = s; (p = strstr(p, ".lora_")); p++)
        mark = p;
    if (!mark || mark == s || (size_t)(mark - s) >= MAX_NAME || (mark[6] != 'A' && mark[6] != 'B') || mark[7] != '.')
        return -1;
    const char *tail = mark + 8, *dot = strchr(tail, '.');
    if (strcmp(tail, "weight") != 0 && !(dot && strcmp(dot, ".weight") == 0)) /* the adapter's name may stand between */
        return -1;
    snprintf(module, MAX_NAME, "%.*s", (int)(mark - s), s);
    *is_b = mark[6] == 'B';
    return 0;
}

static int refuse(const struct loading *x, const char *name, const char *why)
{
    return qvl_fail(x->err, QVL_E_UNSUPPORTED, "%s: %s: %s", x->path, name, why);
}

/* The pair that a module's name stands for, and the shape of its matrix. */
static int find_pair(const struct loading *x, const char *name, const char *module, struct qvl_lora_pair **pair, int64_t *n_out, int64_t *n_in)
{
    char full[MAX_NAME + 16], canonical[MAX_NAME + 64], *end;
    const char *s = canonical;
    snprintf(full, sizeof full, "%s.weight", module);
    qvl_canonical_name(canonical, sizeof canonical, full);
    canonical[strlen(canonical) - 7] = 0; /* ".weight" served the folding only */
    if (strncmp(s, "visual.", 7) == 0)
        return refuse(x, name, "adapts the vision encoder, which is not supported");
    if (strcmp(s, "lm_head") == 0) {
        *pair = &x->l->head;
        *n_out = x->c->n_vocab;
        *n_in = x->c->d_model;
        return 0;
    }
    if (strncmp(s, "language_model.layers.", 22) != 0 || !isdigit((unsigned char)s[22]))
        return refuse(x, name, "adapts a module that is no matrix of the decoder");
    long layer = strtol(s + 22, &end, 10);
    if (*end != '.' || end - (s + 22) > 5 || layer >= x->c->n_layer)
        return qvl_fail(x->err, QVL_E_FORMAT, "%s: %s: found layer %ld, the model has %d", x->path, name, layer, x->c->n_layer);
    for (size_t i = 0; i < QVL_COUNT(places); i++) {
        if (strcmp(end + 1, places[i].name) != 0)
            continue;
        if (places[i].place >= QVL_LORA_GATE && x->c->n_expert && (!x->c->is_sparse || x->c->is_sparse[layer]))
            return refuse(x, name, "this layer of the model has experts instead");
        shape_of(x->c, places[i].place, n_out, n_in);
        *pair = &x->l->layers[(size_t)layer * QVL_LORA_PLACES + (size_t)places[i].place];
        return 0;
    }
    return refuse(x, name, strstr(s, "expert") || strstr(s, "mlp.gate") ? "adapts experts or their router, which is not supported"
                                                                        : "adapts a module that is no matrix of the decoder");
}

/* ---------------------------------------------------------------- tensors */

/* PEFT saves the head's own matrix along with its adapter. Training does not touch it: the model has the same. */
static int is_base_copy(const struct loading *x, const struct qvl_tensor *t)
{
    static const char tail[] = "lm_head.base_layer.weight";
    size_t n = strlen(t->name), m = sizeof tail - 1;
    return n >= m && strcmp(t->name + n - m, tail) == 0 && t->rank == 2 && t->shape[0] == x->c->n_vocab && t->shape[1] == x->c->d_model;
}

static int take_tensor(struct loading *x, const struct qvl_tensor *t)
{
    char module[MAX_NAME], found[128];
    struct qvl_lora_pair *pair = NULL;
    int64_t n_out = 0, n_in = 0;
    double rank, scale;
    int is_b;
    if (is_base_copy(x, t))
        return 0;
    if (strstr(t->name, "lora_magnitude"))
        return refuse(x, t->name, "belongs to DoRA, which is not supported");
    if (split_name(module, &is_b, t->name) < 0)
        return refuse(x, t->name, strstr(t->name, "lora_") ? "is no matrix A or B of a linear layer" : "is a whole weight, not a low-rank change");
    QVL_TRY(find_pair(x, t->name, module, &pair, &n_out, &n_in));
    qvl_lora_config_of(&x->config, module, &rank, &scale);
    int64_t r = (int64_t)rank, rows = is_b ? n_out : r, cols = is_b ? r : n_in;
    if ((double)r != rank || t->rank != 2 || t->shape[0] != rows || t->shape[1] != cols)
        return qvl_fail(x->err, QVL_E_FORMAT, "%s: %s: found %s, expected [%lld,%lld] by the model and by %s", x->path, t->name,
                        qvl_tensor_describe(t, found, sizeof found), (long long)rows, (long long)cols, CONFIG_NAME);
    if (t->type != QVL_DT_F32 && t->type != QVL_DT_F16 && t->type != QVL_DT_BF16)
        return qvl_fail(x->err, QVL_E_UNSUPPORTED, "%s: %s: found type %s, expected F32, F16 or BF16", x->path, t->name, t->type_name);
    struct qvl_mat *m = is_b ? &pair->b : &pair->a;
    if (m->data)
        return qvl_fail(x->err, QVL_E_FORMAT, "%s: %s: another tensor says the same", x->path, t->name);
    *m = (struct qvl_mat){.data = t->data, .type = t->type, .n_out = rows, .n_in = cols, .stride = cols};
    pair->scale = (float)(scale * x->scale);
    x->l->bytes += t->bytes;
    x->l->rank = r > x->l->rank ? r : x->l->rank;
    return isfinite(pair->scale) ? 0 : qvl_fail(x->err, QVL_E_FORMAT, "%s: the scale of %s is not finite", x->path, module);
}

/* The other half of every tensor is there, too. */
static int check_pairs(const struct loading *x)
{
    size_t n = (size_t)x->c->n_layer * QVL_LORA_PLACES, used = 0;
    for (size_t i = 0; i <= n; i++) {
        const struct qvl_lora_pair *p = i < n ? &x->l->layers[i] : &x->l->head;
        used += p->a.data != NULL;
        if (!p->a.data != !p->b.data && i == n)
            return qvl_fail(x->err, QVL_E_FORMAT, "%s: lm_head: has only one of lora_A and lora_B", x->path);
        if (!p->a.data != !p->b.data)
            return qvl_fail(x->err, QVL_E_FORMAT, "%s: layer %zu: %s: has only one of lora_A and lora_B", x->path, i / QVL_LORA_PLACES,
                            places[i % QVL_LORA_PLACES].name);
    }
    return used ? 0 : qvl_fail(x->err, QVL_E_FORMAT, "%s: holds no matrices", x->path);
}

static int take_tensors(struct loading *x)
{
    x->l->layers = qvl_calloc((size_t)x->c->n_layer * QVL_LORA_PLACES, sizeof *x->l->layers);
    if (!x->l->layers)
        return qvl_fail_nomem(x->err, (size_t)x->c->n_layer * QVL_LORA_PLACES * sizeof *x->l->layers, x->path);
    for (size_t i = 0; i < qvl_tensors_count(x->l->file); i++)
        QVL_TRY(take_tensor(x, qvl_tensors_at(x->l->file, i)));
    return check_pairs(x);
}

static int read_config(struct loading *x, const char *path)
{
    char *text;
    size_t len;
    QVL_TRY(qvl_file_read(&text, &len, path, MAX_CONFIG, x->err));
    int rc = qvl_lora_config_parse(&x->config, text, len, path, x->err);
    qvl_mem_free(text);
    return rc;
}

static int missing(const char *dir, qvl_err *err)
{
    char *bin = qvl_path_join(dir, "adapter_model.bin");
    int has_bin = bin && qvl_file_exists(bin);
    qvl_mem_free(bin);
    return qvl_fail(err, has_bin ? QVL_E_UNSUPPORTED : QVL_E_NOTFOUND, "%s: %s is missing%s", dir, WEIGHTS_NAME,
                    has_bin ? "; it has adapter_model.bin: save the adapter as safetensors" : "");
}

int qvl_lora_open(struct qvl_lora *l, const char *dir, double scale, const struct qvl_text_config *c, qvl_err *err)
{
    char *config = qvl_path_join(dir, CONFIG_NAME), *weights = qvl_path_join(dir, WEIGHTS_NAME);
    struct loading x = {.l = l, .c = c, .scale = scale, .path = weights, .err = err};
    int rc = 0;
    *l = (struct qvl_lora){0};
    if (!config || !weights)
        rc = qvl_fail_nomem(err, strlen(dir), dir);
    if (rc == 0)
        rc = read_config(&x, config);
    if (rc == 0 && !qvl_file_exists(weights))
        rc = missing(dir, err);
    if (rc == 0)
        rc = qvl_safetensors_open(&l->file, weights, err);
    if (rc == 0)
        rc = take_tensors(&x);
    qvl_lora_config_free(&x.config);
    qvl_mem_free(config);
    qvl_mem_free(weights);
    if (rc)
        qvl_lora_close(l);
    return rc;
}

void qvl_lora_close(struct qvl_lora *l)
{
    qvl_tensors_close(&l->file);
    qvl_mem_free(l->layers);
    *l = (struct qvl_lora){0};
}
