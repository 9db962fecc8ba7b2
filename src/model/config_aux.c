/* config_aux.c - generation_config.json and preprocessor_config.json. */
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "model/config_read.h"

#define MAX_PIXELS (INT64_C(1) << 40)

/* eos_token_id of generation_config.json, else of config.json, else of its text_config: a number or a list. */
static int end_tokens(struct qvl_config *c, const struct qvl_fields *gen, const json_t *config)
{
    struct qvl_generation_config *g = &c->gen;
    struct qvl_fields where[3] = {*gen, {config, "config.json", gen->err},
                                  {json_object_get(config, "text_config"), "config.json: text_config", gen->err}};
    for (int i = 0; i < 3 && g->n_eos <= 0; i++)
        QVL_TRY(qvl_field_ints(&where[i], "eos_token_id", 0, c->text.n_vocab - 1, QVL_MAX_EOS, 1, g->eos, &g->n_eos));
    if (g->n_eos < 0)
        g->n_eos = 0;
    return 0;
}

int qvl_config_generation(struct qvl_config *c, const json_t *generation, const json_t *config, qvl_err *err)
{
    struct qvl_generation_config *g = &c->gen;
    struct qvl_fields f = {.obj = generation, .name = "generation_config.json", .err = err};
    double temperature = 1, top_p = 1, min_p = 0, penalty = 1;
    if (generation && !json_is_object(generation))
        return qvl_fail(err, QVL_E_FORMAT, "%s: expected a JSON object", f.name);
    QVL_TRY(qvl_field_bool(&f, "do_sample", 0, &g->do_sample));
    QVL_TRY(qvl_field_real(&f, "temperature", 0, 1e6, &temperature));
    QVL_TRY(qvl_field_real(&f, "top_p", 0, 1, &top_p));
    QVL_TRY(qvl_field_real(&f, "min_p", 0, 1, &min_p));
    QVL_TRY(qvl_field_real(&f, "repetition_penalty", 1e-6, 1e6, &penalty));
    QVL_TRY(qvl_field_i32(&f, "top_k", -1, INT32_MAX, 50, &g->top_k)); /* 50: what the reference samples with by default */
    if (g->top_k < 0)
        g->top_k = 0;
    g->temperature = (float)temperature;
    g->top_p = (float)top_p;
    g->min_p = (float)min_p;
    g->repetition_penalty = (float)penalty;
    return end_tokens(c, &f, config);
}

void qvl_config_image_default(struct qvl_image_config *image)
{
    *image = (struct qvl_image_config){.min_pixels = 65536, .max_pixels = 16777216, .mean = {0.5f, 0.5f, 0.5f},
                                       .std = {0.5f, 0.5f, 0.5f}};
}

static int three(const struct qvl_fields *f, const char *key, double lo, double hi, float out[3])
{
    const json_t *v = qvl_field(f, key);
    if (!v)
        return 0;
    if (!json_is_array(v) || json_array_size(v) != 3)
        return qvl_fail(f->err, QVL_E_FORMAT, "%s: %s: expected a list of three numbers", f->name, key);
    for (size_t i = 0; i < 3; i++) {
        const json_t *e = json_array_get(v, i);
        double x = json_number_value(e);
        if (!json_is_number(e) || !(x >= lo && x <= hi))
            return qvl_fail(f->err, QVL_E_FORMAT, "%s: %s: expected three numbers from %g to %g", f->name, key, lo, hi);
        out[i] = (float)x;
    }
    return 0;
}

/* The sizes that the weights were made for. */
static int agrees(const struct qvl_fields *f, const char *key, int expected)
{
    int v;
    QVL_TRY(qvl_field_i32(f, key, 1, INT32_MAX, expected, &v));
    return v == expected ? 0 : qvl_fail(f->err, QVL_E_FORMAT, "%s: %s: found %d, but vision_config says %d", f->name, key, v,
                                        expected);
}

static int must_be_true(const struct qvl_fields *f, const char *key)
{
    int v;
    QVL_TRY(qvl_field_bool(f, key, 1, &v));
    return v ? 0 : qvl_fail(f->err, QVL_E_UNSUPPORTED, "%s: %s: found false, only true is supported", f->name, key);
}

/* size.shortest_edge and size.longest_edge are numbers of pixels in spite of their names; min_pixels and max_pixels, the
 * older spelling, win when both are there. */
static int pixel_limits(struct qvl_image_config *image, const struct qvl_fields *f)
{
    struct qvl_fields size;
    char name[96];
    int64_t lo, hi;
    QVL_TRY(qvl_field_object(f, "size", &size, name, sizeof name));
    if (size.obj && (!qvl_field(&size, "shortest_edge") || !qvl_field(&size, "longest_edge"))) {
        if (!qvl_field(f, "min_pixels") || !qvl_field(f, "max_pixels"))
            return qvl_fail(f->err, QVL_E_FORMAT, "%s: expected shortest_edge and longest_edge", name);
    }
    QVL_TRY(qvl_field_int(&size, "shortest_edge", 1, MAX_PIXELS, (int64_t)image->min_pixels, &lo));
    QVL_TRY(qvl_field_int(&size, "longest_edge", 1, MAX_PIXELS, (int64_t)image->max_pixels, &hi));
    QVL_TRY(qvl_field_int(f, "min_pixels", 1, MAX_PIXELS, lo, &lo));
    QVL_TRY(qvl_field_int(f, "max_pixels", 1, MAX_PIXELS, hi, &hi));
    if (lo > hi)
        return qvl_fail(f->err, QVL_E_FORMAT, "%s: the least number of pixels (%lld) is above the greatest (%lld)", f->name,
                        (long long)lo, (long long)hi);
    image->min_pixels = (uint64_t)lo;
    image->max_pixels = (uint64_t)hi;
    return 0;
}

int qvl_config_preprocessor(struct qvl_config *c, const json_t *root, const char *file, qvl_err *err)
{
    struct qvl_fields f = {.obj = root, .name = file, .err = err}, inner;
    char name[96];
    double factor = 1.0 / 255;
    int resample;
    qvl_config_image_default(&c->image);
    if (!root)
        return 0;
    if (!json_is_object(root))
        return qvl_fail(err, QVL_E_FORMAT, "%s: expected a JSON object", file);
    QVL_TRY(qvl_field_object(&f, "image_processor", &inner, name, sizeof name));
    if (inner.obj)
        f = inner;
    QVL_TRY(pixel_limits(&c->image, &f));
    QVL_TRY(three(&f, "image_mean", -1e6, 1e6, c->image.mean));
    QVL_TRY(three(&f, "image_std", 1e-6, 1e6, c->image.std));
    QVL_TRY(agrees(&f, "patch_size", c->vision.patch));
    QVL_TRY(agrees(&f, "temporal_patch_size", c->vision.temporal_patch));
    QVL_TRY(agrees(&f, "merge_size", c->vision.merge));
    QVL_TRY(must_be_true(&f, "do_resize"));
    QVL_TRY(must_be_true(&f, "do_rescale"));
    QVL_TRY(must_be_true(&f, "do_normalize"));
    QVL_TRY(qvl_field_real(&f, "rescale_factor", 0, 1e6, &factor));
    if (!(fabs(factor * 255 - 1) < 1e-6))
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: rescale_factor: found %g, only 1/255 is supported", f.name, factor);
    QVL_TRY(qvl_field_i32(&f, "resample", 0, 100, 3, &resample));
    if (resample != 3)
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: resample: found %d, only 3 (bicubic) is supported", f.name, resample);
    return 0;
}
