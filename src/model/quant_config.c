/* quant_config.c - see quant_config.h. Only what tensors cannot tell is taken from here, and what would change their meaning is
 * refused; names of modules are not looked at: a module is quantised when its tensors are. */
#include "model/quant_config.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "model/config_read.h"

#define SUPPORTED "supported are awq (gemm), gptq, compressed-tensors, fp8, bitsandbytes, and the formats of MLX"

const char *qvl_quant_method_name(enum qvl_quant_method m)
{
    static const char *const names[] = {"none", "AWQ", "GPTQ", "compressed-tensors", "FP8", "bitsandbytes", "MLX"};
    return (size_t)m < QVL_COUNT(names) ? names[m] : "?";
}

static int unsupported(const struct qvl_fields *f, const char *key, const char *found, const char *supported)
{
    return qvl_fail(f->err, QVL_E_UNSUPPORTED, "%s: %s: found %s, %s", f->name, key, found, supported);
}

/* The string at key: *out, or `def`; one of the space-separated words of `known`. */
static int choice(const struct qvl_fields *f, const char *key, const char *def, const char *known, const char **out)
{
    char supported[160];
    const char *s = NULL;
    QVL_TRY(qvl_field_string(f, key, &s));
    *out = s ? s : def;
    size_t n = strlen(*out);
    for (const char *w = known; *w; w += strcspn(w, " "), w += *w == ' ')
        if (n && n == strcspn(w, " ") && !strncmp(w, *out, n))
            return 0;
    snprintf(supported, sizeof supported, "supported: %s", known);
    return unsupported(f, key, *out, supported);
}

static int bits_and_group(struct qvl_quant_config *q, const struct qvl_fields *f, const char *bits, int def)
{
    QVL_TRY(qvl_field_i32(f, bits, 1, 32, def, &q->bits));
    return qvl_field_i32(f, "group_size", -1, 1 << 24, 0, &q->group);
}

static int awq(struct qvl_quant_config *q, const struct qvl_fields *f)
{
    const char *version, *key = qvl_field(f, "bits") ? "bits" : "w_bit";
    int zero_point;
    QVL_TRY(choice(f, "version", "gemm", "gemm GEMM", &version));
    snprintf(q->format, sizeof q->format, "gemm");
    QVL_TRY(qvl_field_bool(f, "zero_point", 1, &zero_point)); /* symmetric files have zero points, too */
    QVL_TRY(bits_and_group(q, f, key, 4));
    if (!q->group)
        QVL_TRY(qvl_field_i32(f, "q_group_size", -1, 1 << 24, 0, &q->group));
    if (q->bits == 4)
        return 0;
    char found[16];
    snprintf(found, sizeof found, "%d", q->bits);
    return unsupported(f, key, found, "supported are 4");
}

static int gptq(struct qvl_quant_config *q, const struct qvl_fields *f)
{
    const char *format, *words;
    const char *key = qvl_field(f, "checkpoint_format") ? "checkpoint_format" : "format";
    QVL_TRY(choice(f, key, "gptq", "gptq gptq_v2", &format));
    QVL_TRY(choice(f, "pack_dtype", "int32", "int32", &words));
    snprintf(q->format, sizeof q->format, "%s", format);
    q->zero_add = !strcmp(format, "gptq");
    QVL_TRY(qvl_field_bool(f, "desc_act", 0, &q->desc_act));
    QVL_TRY(bits_and_group(q, f, "bits", 0));
    if (q->bits && q->bits != 2 && q->bits != 3 && q->bits != 4 && q->bits != 8) {
        char found[16];
        snprintf(found, sizeof found, "%d", q->bits);
        return unsupported(f, "bits", found, "supported are 2, 3, 4 and 8");
    }
    const json_t *dynamic = qvl_field(f, "dynamic");
    if (json_is_object(dynamic) && json_object_size(dynamic)) /* modules of their own bits and groups */
        q->bits = q->group = 0;
    return 0;
}

#define COMPRESSED_FORMATS "pack-quantized int-quantized float-quantized naive-quantized mixed-precision"

/* One of config_groups: what its weights are. The first one is kept, others must agree or leave it to shapes. */
static int compressed_group(struct qvl_quant_config *q, const struct qvl_fields *groups, const char *key, int first)
{
    struct qvl_fields g, w;
    char name[128], weights[160];
    const char *type, *strategy, *format;
    int bits, group, block[2], n;
    QVL_TRY(qvl_field_object(groups, key, &g, name, sizeof name));
    if (!g.obj)
        return 0;
    if (qvl_field(&g, "format"))
        QVL_TRY(choice(&g, "format", "", COMPRESSED_FORMATS, &format));
    QVL_TRY(qvl_field_object(&g, "weights", &w, weights, sizeof weights));
    if (!w.obj)
        return 0;
    QVL_TRY(choice(&w, "type", "int", "int float", &type));
    QVL_TRY(choice(&w, "strategy", "tensor", "tensor channel group block", &strategy));
    QVL_TRY(qvl_field_i32(&w, "num_bits", 1, 32, 8, &bits));
    if (bits < 2 || bits > 8 || (bits != 8 && !strcmp(type, "float"))) {
        char found[32];
        snprintf(found, sizeof found, "%d (%s)", bits, type);
        return unsupported(&w, "num_bits", found, "supported are integers of 2 to 8 bits and FP8");
    }
    QVL_TRY(qvl_field_i32(&w, "group_size", -1, 1 << 24, 0, &group));
    QVL_TRY(qvl_field_ints(&w, "block_structure", 1, 1 << 20, 2, 0, block, &n));
    if (n == 2 && !strcmp(strategy, "block"))
        memcpy(q->block, block, sizeof block);
    const json_t *order = qvl_field(&w, "actorder"); /* "group", "weight", or true */
    q->desc_act |= json_is_true(order) || (json_is_string(order) && strcmp(json_string_value(order), "weight") != 0);
    if (strcmp(strategy, "group") != 0)
        group = 0;
    q->bits = first || bits == q->bits ? bits : 0;
    q->group = first || group == q->group ? group : 0;
    return 0;
}

static int compressed(struct qvl_quant_config *q, const struct qvl_fields *f)
{
    struct qvl_fields groups, part;
    char name[128], part_name[128];
    const char *format, *key;
    json_t *value;
    int first = 1;
    QVL_TRY(choice(f, "format", "", COMPRESSED_FORMATS, &format));
    snprintf(q->format, sizeof q->format, "%s", format);
    QVL_TRY(qvl_field_object(f, "config_groups", &groups, name, sizeof name));
    json_object_foreach((json_t *)groups.obj, key, value)
    {
        QVL_TRY(compressed_group(q, &groups, key, first));
        first = 0;
    }
    QVL_TRY(qvl_field_object(f, "transform_config", &part, part_name, sizeof part_name));
    if (part.obj && json_object_size(part.obj))
        return unsupported(f, "transform_config", "rotated weights", "supported are weights without a transform");
    QVL_TRY(qvl_field_object(f, "sparsity_config", &part, part_name, sizeof part_name));
    if (part.obj && qvl_field(&part, "format"))
        QVL_TRY(choice(&part, "format", "", "dense", &format));
    return 0;
}

static int fp8(struct qvl_quant_config *q, const struct qvl_fields *f)
{
    const char *fmt;
    int n;
    QVL_TRY(choice(f, "fmt", "e4m3", "e4m3 e5m2", &fmt));
    snprintf(q->format, sizeof q->format, "%s", fmt);
    q->bits = 8;
    QVL_TRY(qvl_field_ints(f, "weight_block_size", 1, 1 << 20, 2, 0, q->block, &n));
    if (n != 2)
        q->block[0] = q->block[1] = 0;
    return 0;
}

static int bitsandbytes(struct qvl_quant_config *q, const struct qvl_fields *f)
{
    const char *type;
    int four, eight;
    QVL_TRY(qvl_field_bool(f, qvl_field(f, "load_in_4bit") ? "load_in_4bit" : "_load_in_4bit", 0, &four));
    QVL_TRY(qvl_field_bool(f, qvl_field(f, "load_in_8bit") ? "load_in_8bit" : "_load_in_8bit", 0, &eight));
    QVL_TRY(choice(f, "bnb_4bit_quant_type", four ? "fp4" : "nf4", "nf4 fp4", &type));
    snprintf(q->format, sizeof q->format, "%s", eight && !four ? "int8" : type);
    q->bits = eight && !four ? 8 : four ? 4 : 0;
    return 0;
}

/* Objects of modules ("a.b.c": {...} or false) may stand beside the three fields; then shapes tell. */
static int mlx(struct qvl_quant_config *q, const struct qvl_fields *f)
{
    const char *mode, *key;
    json_t *value;
    QVL_TRY(choice(f, "mode", "affine", "affine mxfp4 nvfp4 mxfp8", &mode));
    snprintf(q->format, sizeof q->format, "%s", mode);
    QVL_TRY(bits_and_group(q, f, "bits", 0));
    json_object_foreach((json_t *)f->obj, key, value)
        if (json_is_object(value) && json_object_size(value))
            q->bits = q->group = 0;
    return 0;
}

int qvl_quant_config_parse(struct qvl_quant_config *q, const json_t *object, const char *file, const char *field, qvl_err *err)
{
    static const struct {
        const char *name;
        enum qvl_quant_method method;
        int (*parse)(struct qvl_quant_config *q, const struct qvl_fields *f);
    } methods[] = {{"awq", QVL_QUANT_AWQ, awq},   {"gptq", QVL_QUANT_GPTQ, gptq}, {"compressed-tensors", QVL_QUANT_COMPRESSED, compressed},
                   {"fp8", QVL_QUANT_FP8, fp8}, {"bitsandbytes", QVL_QUANT_BNB, bitsandbytes}};
    char name[192];
    struct qvl_fields f = {.obj = object, .name = name, .err = err};
    const char *method = NULL;
    *q = (struct qvl_quant_config){0};
    snprintf(name, sizeof name, "%s%s%s", file, field ? ": " : "", field ? field : "");
    if (!json_is_object(object))
        return qvl_fail(err, QVL_E_FORMAT, "%s: expected an object", name);
    QVL_TRY(qvl_field_string(&f, "quant_method", &method));
    if (!method && qvl_field(&f, "bits") && (qvl_field(&f, "desc_act") || qvl_field(&f, "damp_percent")))
        method = "gptq"; /* AutoGPTQ's own file does not say */
    if (!method && qvl_field(&f, "w_bit")) /* nor AutoAWQ's first one */
        method = "awq";
    if (!method && (qvl_field(&f, "load_in_4bit") || qvl_field(&f, "load_in_8bit")))
        method = "bitsandbytes";
    if (!method && qvl_field(&f, "bits") && qvl_field(&f, "group_size")) {
        q->method = QVL_QUANT_MLX;
        return mlx(q, &f);
    }
    for (size_t i = 0; method && i < QVL_COUNT(methods); i++)
        if (!strcmp(method, methods[i].name)) {
            q->method = methods[i].method;
            return methods[i].parse(q, &f);
        }
    return unsupported(&f, "quant_method", method ? method : "none", SUPPORTED);
}
