/* onnx_model.h - the text half of a model in an ONNX Runtime GenAI folder: genai_config.json, model.onnx and its external data
 * -> a tensor set in canonical names, ready for binding. The graph is read, never executed.
 *
 * What such a folder cannot give comes from the model's own: the vision half always, and the embedding or the head when
 * the export left them out. DeepStack is the vision half's and the decoder's business: exports know nothing of it, and
 * their text weights are the ones that it needs. */
#ifndef QVL_MODEL_ONNX_MODEL_H
#define QVL_MODEL_ONNX_MODEL_H

#include "formats/nbits.h"
#include "formats/onnx.h"
#include "model/config.h"

struct qvl_onnx_model {
    char *path;                  /* of the model file */
    struct qvl_onnx *graph;
    struct qvl_onnx *embedding;  /* a file of its own, or NULL */
    struct qvl_tensors *tensors; /* all of the model: views into the files above and into `rest` */
    struct qvl_nbits *nbits;     /* descriptions of the quantised ones; their `aux` */
    void *table;                 /* an embedding that was stored transposed, put in order */
};

/* Opens `path`, a folder with genai_config.json or the .onnx file in it. `c` is the model's configuration: the export must agree
 * with it. `rest` are the model's own tensors, which must outlive *m. */
int qvl_onnx_model_open(struct qvl_onnx_model *m, const char *path, const struct qvl_config *c, const struct qvl_tensors *rest,
                        qvl_err *err);
void qvl_onnx_model_close(struct qvl_onnx_model *m);
/* 1 if qvl_onnx_model_open is the way to open this path. */
int qvl_onnx_model_is(const char *path);

/* genai_config.json checked against the configuration; *decoder and *embedding are file names from qvl_alloc (embedding NULL:
 * there is none). For tests and fuzzing, too. */
int qvl_genai_config_parse(const char *text, size_t len, const char *what, const struct qvl_text_config *c, char **decoder,
                           char **embedding, qvl_err *err);

#endif
