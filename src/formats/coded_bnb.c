/* coded_bnb.c - bitsandbytes: nf4 and fp4 in blocks through the flattened matrix, and int8 with a scale a row.
 *
 * 4 bits: weight holds ceil(N*K/2) bytes in any type and shape, the first code of a pair in the high half; absmax is f32, or,
 * quantised once more, a code of nested_quant_map for each block, scaled by nested_absmax, plus nested_offset. Sizes and
 * offset stand in the JSON of quant_state.
 * int8: weight [N][K] I8, SCB [N] f32. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "formats/coded_check.h"

enum { MAX_STATE_BYTES = 65536 };

struct state {
    int64_t block, nested_block;
    double offset;
};

static int64_t integer(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_integer(v) ? json_integer_value(v) : -1;
}

static int check_state(struct state *s, const struct qvl_coded_parts *p, const json_t *root, qvl_err *err)
{
    const json_t *shape = json_object_get(root, "shape"), *offset = json_object_get(root, "nested_offset");
    const char *file = p->state->file, *name = p->state->name;
    s->block = integer(root, "blocksize");
    if (s->block < 1 || s->block > QVL_CODED_MAX_INPUTS)
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: blocksize: found %lld, expected a positive number", file, name,
                        (long long)s->block);
    if (json_array_size(shape) != 2 || json_integer_value(json_array_get(shape, 0)) != p->n_out ||
        json_integer_value(json_array_get(shape, 1)) != p->n_in)
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: shape: expected [%lld,%lld]", file, name, (long long)p->n_out,
                        (long long)p->n_in);
    if (!p->nested)
        return 0;
    s->nested_block = integer(root, "nested_blocksize");
    s->offset = json_number_value(offset);
    if (s->nested_block < 1 || s->nested_block > QVL_CODED_MAX_INPUTS || !json_is_number(offset) || !isfinite(s->offset))
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: nested_blocksize or nested_offset: missing or no number", file, name);
    return 0;
}

static int read_state(struct state *s, const struct qvl_coded_parts *p, qvl_err *err)
{
    json_t *root = NULL;
    char what[256];
    if (p->state->type != QVL_DT_U8 || p->state->rank != 1 || p->state->shape[0] > MAX_STATE_BYTES)
        return qvl_coded_wrong(p, p->state, "a JSON text as U8 of at most 65536 bytes", err);
    snprintf(what, sizeof what, "%s: tensor %s", p->state->file, p->state->name);
    QVL_TRY(qvl_json_parse(&root, p->state->data, p->state->bytes, what, err));
    int rc = check_state(s, p, root, err);
    json_decref(root);
    return rc;
}

/* f32 of n elements in any shape. */
static int check_f32(const struct qvl_coded_parts *p, const struct qvl_tensor *t, int64_t n, qvl_err *err)
{
    char expected[64];
    snprintf(expected, sizeof expected, "%lld values of F32", (long long)n);
    return t->type == QVL_DT_F32 && qvl_tensor_elems(t) == n ? 0 : qvl_coded_wrong(p, t, expected, err);
}

static int take_absmax(struct qvl_coded *q, const struct qvl_coded_parts *p, const struct state *s, qvl_err *err)
{
    char expected[64];
    q->scales = p->scales->data;
    if (!p->nested) {
        q->scale_type = QVL_DT_F32;
        return check_f32(p, p->scales, q->n_group, err);
    }
    if (!p->nested_map)
        return qvl_fail(err, QVL_E_FORMAT, "%s: %s: nested_absmax without nested_quant_map", p->weight->file, p->what);
    snprintf(expected, sizeof expected, "%lld values of U8", (long long)q->n_group);
    if (p->scales->type != QVL_DT_U8 || qvl_tensor_elems(p->scales) != q->n_group)
        return qvl_coded_wrong(p, p->scales, expected, err);
    QVL_TRY(check_f32(p, p->nested, qvl_ceil_div(q->n_group, s->nested_block), err));
    QVL_TRY(check_f32(p, p->nested_map, 256, err));
    q->scale_type = QVL_DT_U8;
    q->nested = p->nested->data;
    q->nested_map = p->nested_map->data;
    q->nested_block = s->nested_block;
    q->nested_offset = (float)s->offset;
    return 0;
}

int qvl_coded_bnb4(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err)
{
    struct state s = {0};
    char expected[64];
    QVL_TRY(qvl_coded_begin(q, p, "bitsandbytes", err));
    if (!p->state || !p->map)
        return qvl_fail(err, QVL_E_FORMAT, "%s: %s: quantised (bitsandbytes), but its %s is missing", p->weight->file, p->what,
                        p->state ? "quant_map" : "quant_state");
    QVL_TRY(read_state(&s, p, err));
    const uint64_t elems = (uint64_t)p->n_out * (uint64_t)p->n_in; /* below 2^52 */
    snprintf(expected, sizeof expected, "%lld bytes", (long long)((elems + 1) / 2));
    if (p->weight->bytes != (elems + 1) / 2)
        return qvl_coded_wrong(p, p->weight, expected, err);
    QVL_TRY(check_f32(p, p->map, 16, err));
    memcpy(q->table, p->map->data, sizeof q->table);
    q->rule = QVL_CODED_TABLE;
    q->bits = 4;
    q->flat = 1;
    q->codes = (struct qvl_lines){.data = p->weight->data, .form = QVL_LINES_HIGH_FIRST, .bits = 4};
    q->group = s.block;
    q->n_group = qvl_ceil_div((int64_t)elems, s.block);
    QVL_TRY(take_absmax(q, p, &s, err));
    qvl_coded_count(q, p);
    return 0;
}

int qvl_coded_bnb8(struct qvl_coded *q, const struct qvl_coded_parts *p, qvl_err *err)
{
    QVL_TRY(qvl_coded_begin(q, p, "bitsandbytes", err));
    QVL_TRY(qvl_coded_matrix(p, p->weight, QVL_DT_I8, p->n_out, p->n_in, err));
    QVL_TRY(check_f32(p, p->scales, p->n_out, err));
    if (p->state && (p->state->type != QVL_DT_U8 || qvl_tensor_elems(p->state) != 1 || *(const unsigned char *)p->state->data != 0))
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: %s: tensor %s: supported is 0 (rows in order)", p->state->file, p->what, p->state->name);
    q->rule = QVL_CODED_BY_127;
    q->bits = 8;
    q->is_signed = 1;
    q->codes = (struct qvl_lines){.data = p->weight->data, .form = QVL_LINES_BYTES, .bits = 8, .line = p->n_in, .step = 1};
    q->group = p->n_in;
    q->n_group = 1;
    q->scales = p->scales->data;
    q->scale_type = QVL_DT_F32;
    q->scale_row = 1;
    qvl_coded_count(q, p);
    return 0;
}
