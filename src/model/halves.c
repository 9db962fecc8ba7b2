/* halves.c - see halves.h. */
#include "model/halves.h"

#include <math.h>
#include <string.h>

#include "base/err.h"
#include "formats/tensor_set.h"
#include "model/weights.h"

/* The tensors of one half, appended, and their files with the bytes that are used. */
static int take(struct qvl_tensors *out, const struct qvl_tensors *from, int vision, qvl_err *err)
{
    const char *last = NULL;
    for (size_t i = 0; from && i < qvl_tensors_count(from); i++) {
        const struct qvl_tensor *t = qvl_tensors_at(from, i);
        char name[160];
        qvl_canonical_name(name, sizeof name, t->name);
        if ((strncmp(name, "visual.", 7) == 0) != vision)
            continue;
        out->list[out->n++] = *t;
        if (!last || strcmp(last, t->file) != 0) { /* a file that comes again counts on */
            last = t->file;
            if (!qvl_tensors_add_file(out, t->file))
                return qvl_fail_nomem(err, strlen(t->file), "the list of files");
        }
        out->files[out->n_files - 1].size += t->bytes;
    }
    return 0;
}

int qvl_tensors_halves(struct qvl_tensors **out, const struct qvl_tensors *text, const struct qvl_tensors *vision, qvl_err *err)
{
    struct qvl_tensors *t;
    QVL_TRY(qvl_tensors_new(&t, qvl_tensors_path(text ? text : vision), err));
    int rc = qvl_tensors_reserve(t, (text ? qvl_tensors_count(text) : 0) + (vision ? qvl_tensors_count(vision) : 0), err);
    if (rc == 0)
        rc = take(t, text, 0, err);
    if (rc == 0)
        rc = take(t, vision, 1, err);
    if (rc == 0)
        rc = qvl_tensors_index(t, err);
    if (rc < 0)
        qvl_tensors_close(&t);
    *out = t;
    return rc;
}

struct pair {
    const char *field;
    int expected, found;
};

static int agree(const struct pair *p, size_t n, const char *where, qvl_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (p[i].expected != p[i].found)
            return qvl_fail(err, QVL_E_FORMAT, "%s: %s: found %d, but the model's configuration has %d", where, p[i].field, p[i].found,
                            p[i].expected);
    return 0;
}

/* Files hold them as f32, or in decimal. */
static int agree_real(const char *field, double expected, double found, const char *where, qvl_err *err)
{
    if (fabs(expected - found) <= 1e-6 * fabs(expected))
        return 0;
    return qvl_fail(err, QVL_E_FORMAT, "%s: %s: found %g, but the model's configuration has %g", where, field, found, expected);
}

int qvl_config_agree_text(const struct qvl_config *c, const struct qvl_config *found, const char *where, qvl_err *err)
{
    const struct qvl_text_config *a = &c->text, *b = &found->text;
    const struct pair sizes[] = {
        {"layers", a->n_layer, b->n_layer}, {"width", a->d_model, b->d_model}, {"heads", a->n_head, b->n_head},
        {"key and value heads", a->n_kv, b->n_kv}, {"head size", a->d_head, b->d_head}, {"vocabulary", a->n_vocab, b->n_vocab},
        {"experts", a->n_expert, b->n_expert}, {"experts used", a->n_expert_used, b->n_expert_used},
        {"expert width", a->d_ff_expert, b->d_ff_expert},
        {"rotary section 0", a->rope_section[0], b->rope_section[0]}, {"rotary section 1", a->rope_section[1], b->rope_section[1]},
        {"rotary section 2", a->rope_section[2], b->rope_section[2]}, {"length before YaRN", a->rope_original, b->rope_original},
    };
    QVL_TRY(agree(sizes, QVL_COUNT(sizes), where, err));
    if (!a->n_expert) /* a width that nothing uses in some mixtures of experts; binding checks it where it is used */
        QVL_TRY(agree(&(struct pair){"feed-forward width", a->d_ff, b->d_ff}, 1, where, err));
    QVL_TRY(agree_real("rotary base", a->rope_theta, b->rope_theta, where, err));
    QVL_TRY(agree_real("factor of YaRN", a->rope_factor, b->rope_factor, where, err));
    return agree_real("RMSNorm epsilon", a->rms_eps, b->rms_eps, where, err);
}

int qvl_config_agree_vision(const struct qvl_config *c, const struct qvl_config *found, const char *where, qvl_err *err)
{
    const struct qvl_vision_config *a = &c->vision, *b = &found->vision;
    const struct pair sizes[] = {
        {"blocks", a->depth, b->depth}, {"width", a->d_model, b->d_model}, {"heads", a->n_head, b->n_head},
        {"feed-forward width", a->d_ff, b->d_ff}, {"width of its output", a->d_out, b->d_out}, {"patch size", a->patch, b->patch},
        {"frames in a patch", a->temporal_patch, b->temporal_patch}, {"merge size", a->merge, b->merge},
        {"channels", a->n_channel, b->n_channel}, {"side of the position table", a->n_pos_side, b->n_pos_side},
        {"tanh form of gelu", a->act_tanh, b->act_tanh}, {"DeepStack levels", a->n_tap, b->n_tap},
    };
    QVL_TRY(agree(sizes, QVL_COUNT(sizes), where, err));
    for (int i = 0; i < a->n_tap; i++)
        QVL_TRY(agree(&(struct pair){"block of a DeepStack level", a->tap[i], b->tap[i]}, 1, where, err));
    return 0;
}
