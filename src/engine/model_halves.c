/* model_halves.c - a decoder or a vision encoder from elsewhere (params.text, params.vision): the halves become one set of tensors.
 * The configuration is the model's own and each half must fit it; only a GGUF text model without a vision half takes that half's
 * part of the configuration from where the encoder comes from. */
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "engine/internal.h"
#include "model/halves.h"

static const char VISION_WHAT[] = "vision encoder", VISION_FORMS[] = "a Hugging Face folder, or the vision half of a GGUF model (mmproj)";

static int no_such(const char *path, const char *what, const char *forms, qvl_err *err)
{
    if (!qvl_dir_exists(path) && !qvl_file_exists(path))
        return qvl_fail(err, QVL_E_NOTFOUND, "%s: no such %s", path, what);
    return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: a %s from elsewhere is %s", path, what, forms);
}

static int is_folder_model(const char *path)
{
    char *config = qvl_dir_exists(path) ? qvl_path_join(path, "config.json") : NULL;
    int yes = config && qvl_file_exists(config);
    qvl_mem_free(config);
    return yes;
}

/* The set in use from now on, made of two; what it was before is kept open. */
static int use(struct qvl_model *m, const struct qvl_tensors *text, const struct qvl_tensors *vision, qvl_err *err)
{
    struct qvl_tensors *both;
    QVL_TRY(qvl_tensors_halves(&both, text, vision, err));
    if (m->tensors)
        m->held[m->n_held++] = m->tensors;
    m->tensors = both;
    return 0;
}

int qvl_model_quantised(struct qvl_model *m, const struct qvl_config *c, struct qvl_tensors **t, qvl_err *err)
{
    struct qvl_quantised *q = &m->quantised[m->n_quantised];
    struct qvl_tensors *source = *t;
    if (!c->quant.method)
        return qvl_quantised_check_none(source, err);
    if (QVL_NEVER(m->n_quantised == (int)QVL_COUNT(m->quantised)))
        return qvl_fail(err, QVL_E_STATE, "more quantised folders than a model has parts");
    *t = NULL;
    QVL_TRY(qvl_quantised_open(q, source, c, err));
    m->n_quantised++;
    *t = q->tensors; /* moved */
    q->tensors = NULL;
    return 0;
}

/* A Hugging Face folder with the wanted half: its tensors and configuration. */
static int open_folder(struct qvl_model *m, const char *path, struct qvl_config *c, struct qvl_tensors **t, qvl_err *err)
{
    QVL_TRY(qvl_config_load(c, path, err));
    int rc = qvl_safetensors_open_some(t, path, err);
    if (rc == 0)
        rc = qvl_model_quantised(m, c, t, err);
    if (rc < 0)
        qvl_config_free(c);
    if (*t)
        m->held[m->n_held++] = *t;
    return rc;
}

static int vision_source(struct qvl_model *m, const char *path, qvl_err *err)
{
    struct qvl_config c = {0};
    struct qvl_tensors *t;
    int rc;
    if (qvl_gguf_model_is(path)) {
        if (!m->gguf_vision.vision)
            QVL_TRY(qvl_gguf_model_open_vision(&m->gguf_vision, path, m->config.text.d_model, err));
        QVL_TRY(qvl_config_agree_vision(&m->config, &m->gguf_vision.config, path, err));
        return use(m, m->tensors, m->gguf_vision.tensors, err);
    }
    if (!is_folder_model(path))
        return no_such(path, VISION_WHAT, VISION_FORMS, err);
    QVL_TRY(open_folder(m, path, &c, &t, err));
    rc = qvl_config_agree_vision(&m->config, &c, path, err);
    qvl_config_free(&c);
    return rc < 0 ? rc : use(m, m->tensors, t, err);
}

static int onnx_source(struct qvl_model *m, const char *path, qvl_err *err)
{
    QVL_TRY(qvl_onnx_model_open(&m->onnx, path, &m->config, m->tensors, err));
    if (m->tensors)
        m->held[m->n_held++] = m->tensors;
    m->tensors = m->onnx.tensors; /* moved */
    m->onnx.tensors = NULL;
    return 0;
}

static int text_source(struct qvl_model *m, const char *path, qvl_err *err)
{
    struct qvl_config c = {0};
    struct qvl_tensors *t;
    int rc;
    if (qvl_onnx_model_is(path))
        return onnx_source(m, path, err);
    if (qvl_gguf_model_is(path)) {
        QVL_TRY(qvl_gguf_model_open_text(&m->gguf_text, path, 0, err));
        QVL_TRY(qvl_config_agree_text(&m->config, &m->gguf_text.config, path, err));
        QVL_TRY(qvl_gguf_model_check_taps(&m->gguf_text, m->config.vision.n_tap, m->dir, err));
        return use(m, m->gguf_text.tensors, m->tensors, err);
    }
    if (!is_folder_model(path))
        return no_such(path, "text decoder", "a Hugging Face folder, a GGUF file, or a folder of ONNX Runtime GenAI (genai_config.json, "
                       "model.onnx)", err);
    QVL_TRY(open_folder(m, path, &c, &t, err));
    rc = qvl_config_agree_text(&m->config, &c, path, err);
    qvl_config_free(&c);
    return rc < 0 ? rc : use(m, t, m->tensors, err);
}

int qvl_model_halves(struct qvl_model *m, const qvl_model_params *p, qvl_err *err)
{
    if (!m->tensors) { /* those of GGUF files are there already */
        int rc = qvl_safetensors_open_some(&m->tensors, m->dir, err);
        if (rc < 0 && !(rc == QVL_E_NOTFOUND && p->text && p->vision)) /* then both halves come from elsewhere */
            return rc;
        if (rc == 0)
            QVL_TRY(qvl_model_quantised(m, &m->config, &m->tensors, err));
    }
    if (p->vision)
        QVL_TRY(vision_source(m, p->vision, err));
    return p->text ? text_source(m, p->text, err) : 0;
}

int qvl_model_vision_config(struct qvl_model *m, const char *path, qvl_err *err)
{
    struct qvl_config c;
    if (qvl_gguf_model_is(path)) {
        QVL_TRY(qvl_gguf_model_open_vision(&m->gguf_vision, path, m->config.text.d_model, err));
        m->config.vision = m->gguf_vision.config.vision;
        m->config.image = m->gguf_vision.config.image;
        return qvl_gguf_model_check_taps(&m->gguf, m->config.vision.n_tap, path, err);
    }
    if (!is_folder_model(path))
        return no_such(path, VISION_WHAT, VISION_FORMS, err);
    QVL_TRY(qvl_config_load(&c, path, err));
    m->config.vision = c.vision;
    m->config.image = c.image;
    qvl_config_free(&c);
    if (m->config.vision.d_out != m->config.text.d_model)
        return qvl_fail(err, QVL_E_FORMAT, "%s: out_hidden_size: found %d, but the text model's width is %d", path, m->config.vision.d_out,
                        m->config.text.d_model);
    return qvl_gguf_model_check_taps(&m->gguf, m->config.vision.n_tap, path, err);
}
