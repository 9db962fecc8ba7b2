/* model_text.c - a decoder from elsewhere: the two halves of a hybrid model become one set of tensors. */
#include "base/err.h"
#include "base/file.h"
#include "engine/internal.h"

int qvl_model_text_source(struct qvl_model *m, const qvl_model_params *p, qvl_err *err)
{
    if (!qvl_onnx_model_is(p->text)) {
        if (!qvl_dir_exists(p->text) && !qvl_file_exists(p->text))
            return qvl_fail(err, QVL_E_NOTFOUND, "%s: no such text decoder", p->text);
        return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: a text decoder from elsewhere is a folder of ONNX Runtime GenAI (genai_config.json, "
                        "model.onnx)", p->text);
    }
    m->own = m->tensors;
    m->tensors = NULL;
    QVL_TRY(qvl_onnx_model_open(&m->onnx, p->text, &m->config, m->own, err));
    m->tensors = m->onnx.tensors; /* moved */
    m->onnx.tensors = NULL;
    return 0;
}
