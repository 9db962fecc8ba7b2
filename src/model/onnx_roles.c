/* onnx_roles.c - a node of the graph -> role and place of its weight.
 *
 * Names alone would not do: quantisers append what they like, and leave tensors behind that no node reads. So a weight is
 * what an operator reads at the position of its weight; names only say whose it is. */
#include "model/onnx_roles.h"

#include <stdio.h>
#include <string.h>

#include "base/compiler.h"
#include "base/err.h"

enum { MAX_DETOUR = 8 }; /* nodes between a tensor and the operator that uses it */

static const struct {
    const char *tail; /* behind "layers.N.", up to the end of a part of the name */
    enum qvl_onnx_role role;
} layer_roles[] = {
    {"input_layernorm", QVL_ONNX_NORM1}, {"post_attention_layernorm", QVL_ONNX_NORM2}, {"final_norm_layernorm", QVL_ONNX_NORM},
    {"attn.q_norm", QVL_ONNX_Q_NORM},    {"attn.k_norm", QVL_ONNX_K_NORM},             {"attn.q_proj", QVL_ONNX_Q},
    {"attn.k_proj", QVL_ONNX_K},         {"attn.v_proj", QVL_ONNX_V},                  {"attn.o_proj", QVL_ONNX_O},
    {"attn.qkv_proj", QVL_ONNX_QKV},     {"mlp.gate_proj", QVL_ONNX_GATE},             {"mlp.up_proj", QVL_ONNX_UP},
    {"mlp.down_proj", QVL_ONNX_DOWN},    {"mlp.gate_up_proj", QVL_ONNX_GATE_UP},
};

/* If *s begins with `word` as a whole part of the name, moves behind it and its dot. */
static int part(const char **s, const char *word)
{
    size_t n = strlen(word);
    if (strncmp(*s, word, n) != 0 || ((*s)[n] && (*s)[n] != '.'))
        return 0;
    *s += n + ((*s)[n] == '.');
    return 1;
}

static struct qvl_onnx_place layer_place(const char *s)
{
    struct qvl_onnx_place p = {QVL_ONNX_NONE, 0};
    const char *digits = s;
    for (; *s >= '0' && *s <= '9' && s - digits < 6; s++)
        p.layer = 10 * p.layer + (*s - '0');
    if (s == digits || *s++ != '.')
        return p;
    if (!strncmp(s, "self_attn.", 10))
        s += 5;
    for (size_t i = 0; i < QVL_COUNT(layer_roles); i++) {
        const char *rest = s;
        if (part(&rest, layer_roles[i].tail))
            p.role = layer_roles[i].role;
    }
    return p;
}

struct qvl_onnx_place qvl_onnx_place_of(const char *name)
{
    struct qvl_onnx_place none = {QVL_ONNX_NONE, 0};
    char dotted[256];
    size_t n = 0;
    for (const char *s = name + (*name == '/'); *s && n + 1 < sizeof dotted; s++)
        dotted[n++] = *s == '/' ? '.' : *s;
    dotted[n] = 0;
    for (const char *s = dotted; *s;) { /* from part to part: exporters put words in front */
        if (part(&s, "layers"))
            return layer_place(s);
        if (part(&s, "lm_head"))
            return (struct qvl_onnx_place){QVL_ONNX_HEAD, 0};
        if (part(&s, "embed_tokens"))
            return (struct qvl_onnx_place){QVL_ONNX_EMBED, 0};
        if (part(&s, "norm"))
            return (struct qvl_onnx_place){QVL_ONNX_NORM, 0};
        if (part(&s, "visual") || part(&s, "vision_tower"))
            return none;
        const char *dot = strchr(s, '.');
        if (!dot)
            return none;
        s = dot + 1;
    }
    return none;
}

static int is(const struct qvl_onnx_node *n, const char *op) { return !strcmp(n->op, op); }

static int in_list(const char *op, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(op, *list))
            return 1;
    return 0;
}

static int refuse(const struct qvl_onnx *o, const struct qvl_onnx_node *n, const char *why, qvl_err *err)
{
    return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: node %s, operator %s: %s", qvl_tensors_path(qvl_onnx_tensors(o)),
                    *n->name ? n->name : "without a name", n->op, why);
}

/* Transposes of two dimensions; without the attribute the order is reversed anyway. */
static int swaps(const struct qvl_onnx_node *n)
{
    const struct qvl_onnx_attr *perm = qvl_onnx_attr(n, "perm");
    return !perm || (perm->n_ints == 2 && perm->ints[0] == 1 && perm->ints[1] == 0);
}

/* The tensor behind a value, through nodes that only arrange it: *flips counts transposes; *linear is the DequantizeLinear
 * on the way. NULL: computed in another way. */
static const struct qvl_tensor *trace(const struct qvl_onnx *o, const char *value, int *flips, const struct qvl_onnx_node **linear)
{
    static const char *const passive[] = {"Identity", "Cast", "Reshape", "Transpose", "DequantizeLinear", NULL};
    *flips = 0;
    *linear = NULL;
    for (int i = 0; i < MAX_DETOUR && *value; i++) {
        const struct qvl_tensor *t = qvl_tensors_find(qvl_onnx_tensors(o), value);
        const struct qvl_onnx_node *n = t ? NULL : qvl_onnx_producer(o, value);
        if (t)
            return t;
        if (!n || !in_list(n->op, passive) || *linear)
            return NULL;
        if (is(n, "Transpose")) {
            if (!swaps(n))
                return NULL;
            ++*flips;
        }
        if (is(n, "DequantizeLinear"))
            *linear = n;
        value = qvl_onnx_input(n, 0);
    }
    return NULL;
}

static int is_float(const struct qvl_tensor *t) { return t->type == QVL_DT_F32 || t->type == QVL_DT_F16 || t->type == QVL_DT_BF16; }

/* An optional input that is given must be a tensor: a computed one cannot be read. */
static int optional(const struct qvl_tensor **t, const struct qvl_onnx *o, const struct qvl_onnx_node *n, size_t i, qvl_err *err)
{
    *t = qvl_onnx_input_tensor(o, n, i);
    return *t || !*qvl_onnx_input(n, i) ? 0 : refuse(o, n, "an input that describes the weight is computed", err);
}

/* Codes, scales, zero points; 1 when they are there. */
static int parts_of(struct qvl_nbits_parts *p, const struct qvl_onnx *o, const struct qvl_onnx_node *n, size_t scales, size_t zeros,
                    qvl_err *err)
{
    QVL_TRY(optional(&p->scales, o, n, scales, err));
    QVL_TRY(optional(&p->zeros, o, n, zeros, err));
    if (!p->scales)
        return refuse(o, n, "the scales are missing", err);
    p->what = n->name;
    return 0;
}

static int look_nbits(struct qvl_onnx_found *f, const struct qvl_onnx *o, const struct qvl_onnx_node *n, qvl_err *err)
{
    struct qvl_nbits_parts p = {.n_out = qvl_onnx_attr_int(n, "N", 0), .n_in = qvl_onnx_attr_int(n, "K", 0),
                                .bits = qvl_onnx_attr_int(n, "bits", 4), .block = qvl_onnx_attr_int(n, "block_size", 0)};
    p.codes = qvl_onnx_input_tensor(o, n, 1);
    if (!p.codes)
        return refuse(o, n, "the weight is computed", err);
    f->place = qvl_onnx_place_of(p.codes->name);
    if (!f->place.role)
        f->place = qvl_onnx_place_of(n->name);
    if (!f->place.role)
        return 0;
    if (qvl_onnx_attr_int(n, "weight_prepacked", 0) != 0)
        return refuse(o, n, "weight_prepacked: the weight is in the layout of one kind of graphics processor", err);
    if (*qvl_onnx_input(n, 5))
        return refuse(o, n, "a bias is not supported", err);
    QVL_TRY(parts_of(&p, o, n, 2, 3, err));
    QVL_TRY(optional(&p.groups, o, n, 4, err));
    f->tensor = p.codes;
    f->quantised = 1;
    return qvl_nbits_matmul(&f->nbits, &p, err);
}

static int take_linear(struct qvl_onnx_found *f, const struct qvl_onnx *o, const struct qvl_onnx_node *linear, qvl_err *err)
{
    struct qvl_nbits_parts p = {.codes = f->tensor, .block = qvl_onnx_attr_int(linear, "block_size", 0)};
    if (qvl_onnx_attr_int(linear, "axis", 1) != 0 || p.block == 0)
        return refuse(o, linear, "supported are scales in blocks along axis 0", err);
    QVL_TRY(parts_of(&p, o, linear, 1, 2, err));
    f->quantised = 1;
    return qvl_nbits_linear(&f->nbits, &p, err);
}

/* MatMul has weights [n_in][n_out], Gemm those, or with transB the others. */
static int look_matmul(struct qvl_onnx_found *f, const struct qvl_onnx *o, const struct qvl_onnx_node *n, qvl_err *err)
{
    const struct qvl_onnx_attr *alpha = qvl_onnx_attr(n, "alpha");
    const struct qvl_onnx_node *linear;
    int flips;
    const struct qvl_tensor *t = trace(o, qvl_onnx_input(n, 1), &flips, &linear);
    f->place = t ? qvl_onnx_place_of(t->name) : (struct qvl_onnx_place){QVL_ONNX_NONE, 0};
    if (t && !f->place.role)
        f->place = qvl_onnx_place_of(n->name);
    if (!f->place.role)
        return 0;
    if (is(n, "Gemm") && (*qvl_onnx_input(n, 2) || (alpha && alpha->f != 1) || qvl_onnx_attr_int(n, "transA", 0)))
        return refuse(o, n, "a bias, a factor or a transposed input is not supported", err);
    if (is(n, "Gemm") && qvl_onnx_attr_int(n, "transB", 0))
        flips++;
    f->tensor = t;
    f->transposed = flips % 2 == 0;
    if (linear)
        return f->transposed ? take_linear(f, o, linear, err) : refuse(o, n, "a transposed quantised weight is not supported", err);
    if (!is_float(t) || t->rank != 2)
        return refuse(o, n, "the weight is no matrix of FLOAT, FLOAT16 or BFLOAT16", err);
    return 0;
}

/* A head's codes [V][blocks][bytes] looked up as a table: the same bytes in two dimensions. */
static struct qvl_tensor flat(const struct qvl_tensor *t)
{
    struct qvl_tensor r = *t;
    for (int i = 2; i < t->rank; i++)
        r.shape[1] *= t->shape[i];
    r.rank = t->rank > 2 ? 2 : t->rank;
    return r;
}

static int wrong_table(const struct qvl_onnx_node *n, const struct qvl_tensor *t, int64_t n_vocab, int64_t d_model, qvl_err *err)
{
    char found[128];
    return qvl_fail(err, QVL_E_FORMAT, "%s: node %s: embedding %s: found %s, expected %lld rows of %lld", t->file, n->name, t->name,
                    qvl_tensor_describe(t, found, sizeof found), (long long)n_vocab, (long long)d_model);
}

static int look_table(struct qvl_onnx_found *f, const struct qvl_onnx *o, const struct qvl_onnx_node *n, int64_t n_vocab, int64_t d_model,
                      int any_table, qvl_err *err)
{
    const struct qvl_onnx_node *linear;
    struct qvl_tensor table;
    int flips;
    const struct qvl_tensor *t = trace(o, qvl_onnx_input(n, 0), &flips, &linear);
    if (!t || t->rank < 2)
        return 0;
    enum qvl_onnx_role role = qvl_onnx_place_of(t->name).role;
    if (role == QVL_ONNX_NONE && !any_table)
        role = qvl_onnx_place_of(n->name).role;
    if (role != QVL_ONNX_EMBED && role != QVL_ONNX_HEAD && !(any_table && t->shape[0] == n_vocab))
        return 0;
    if (qvl_onnx_attr_int(n, "gather_axis", 0) != 0 || qvl_onnx_attr_int(n, "axis", 0) != 0)
        return refuse(o, n, "an embedding is looked up along axis 0", err);
    f->place = (struct qvl_onnx_place){QVL_ONNX_EMBED, 0};
    f->tensor = t;
    if (linear)
        return refuse(o, n, "a table behind DequantizeLinear is not supported", err);
    if (is_float(t)) { /* GatherBlockQuantized over numbers: an exporter's slip, whose meaning is clear from the shape */
        int plain = t->rank == 2 && t->shape[0] == n_vocab && t->shape[1] == d_model;
        f->transposed = t->rank == 2 && t->shape[0] == d_model && t->shape[1] == n_vocab && (!plain || flips % 2);
        return plain || f->transposed ? 0 : wrong_table(n, t, n_vocab, d_model, err);
    }
    if (is(n, "Gather"))
        return wrong_table(n, t, n_vocab, d_model, err);
    int64_t axis = qvl_onnx_attr_int(n, "quantize_axis", 1);
    if (flips || (axis != 1 && axis != -1))
        return refuse(o, n, "a table is quantised along its rows", err);
    struct qvl_nbits_parts p = {.codes = &table, .bits = qvl_onnx_attr_int(n, "bits", 4), .block = qvl_onnx_attr_int(n, "block_size", 128)};
    table = flat(t);
    QVL_TRY(parts_of(&p, o, n, 2, 3, err));
    QVL_TRY(qvl_nbits_gather(&f->nbits, &p, err));
    f->quantised = 1;
    /* A head's rows are filled up to whole blocks. */
    if (f->nbits.n_out != n_vocab || f->nbits.n_in < d_model || f->nbits.n_in > (d_model + p.block - 1) / p.block * p.block)
        return wrong_table(n, t, n_vocab, d_model, err);
    f->nbits.n_in = d_model;
    return 0;
}

/* The weight of a norm at one position, behind a Cast at most. */
static int look_norm(struct qvl_onnx_found *f, const struct qvl_onnx *o, const struct qvl_onnx_node *n, size_t at, qvl_err *err)
{
    const struct qvl_onnx_node *linear;
    int flips;
    const struct qvl_tensor *t = trace(o, qvl_onnx_input(n, at), &flips, &linear);
    f->place = t ? qvl_onnx_place_of(t->name) : (struct qvl_onnx_place){QVL_ONNX_NONE, 0};
    if (!qvl_onnx_role_is_vector(f->place.role))
        f->place = qvl_onnx_place_of(n->name);
    if (!qvl_onnx_role_is_vector(f->place.role)) {
        f->place.role = QVL_ONNX_NONE;
        return 0;
    }
    if (!t || !is_float(t) || linear)
        return refuse(o, n, "the weight is no list of FLOAT, FLOAT16 or BFLOAT16", err);
    if (is(n, "SkipSimplifiedLayerNormalization") && *qvl_onnx_input(n, 3))
        return refuse(o, n, "a bias is not supported", err);
    f->tensor = t;
    return 0;
}

int qvl_onnx_look(struct qvl_onnx_found *f, const struct qvl_onnx *o, const struct qvl_onnx_node *n, int64_t n_vocab, int64_t d_model,
                  int any_table, qvl_err *err)
{
    static const char *const neutral[] = {"Identity", "Cast", "Reshape", "Transpose", "DequantizeLinear", "Slice", "Shape", "Constant",
                                         "GroupQueryAttention", NULL};
    *f = (struct qvl_onnx_found){.place = {QVL_ONNX_NONE, 0}};
    if (is(n, "MatMulNBits"))
        return look_nbits(f, o, n, err);
    if (is(n, "MatMul") || is(n, "Gemm"))
        return look_matmul(f, o, n, err);
    if (is(n, "Gather") || is(n, "GatherBlockQuantized"))
        return look_table(f, o, n, n_vocab, d_model, any_table, err);
    if (is(n, "SimplifiedLayerNormalization") || is(n, "RMSNormalization"))
        return look_norm(f, o, n, 1, err);
    if (is(n, "SkipSimplifiedLayerNormalization"))
        return look_norm(f, o, n, 2, err);
    if (in_list(n->op, neutral))
        return 0;
    for (size_t i = 0; i < n->n_input; i++) { /* a weight of ours in an operator that we do not know */
        const struct qvl_tensor *t = qvl_onnx_input_tensor(o, n, i);
        if (t && qvl_onnx_place_of(t->name).role)
            return refuse(o, n, "is not supported for a weight of the decoder", err);
    }
    return 0;
}
