/* gguf_model.h - a Qwen3-VL model in GGUF files → configuration and a tensor set in canonical names, ready for binding.
 *
 * Forms: a text model (architecture qwen3vl or qwen3vlmoe) with a vision file beside it (architecture clip, "mmproj"), as
 * llama.cpp's converter writes them; or one file that holds both, as early Ollama models do. */
#ifndef QVL_MODEL_GGUF_MODEL_H
#define QVL_MODEL_GGUF_MODEL_H

#include "formats/gguf.h"
#include "model/config.h"

struct qvl_gguf_model {
    struct qvl_gguf *text;       /* NULL: only the vision half was opened */
    struct qvl_gguf *vision;     /* NULL: `text` holds both, or there is no vision half */
    int has_vision;
    struct qvl_config config;
    struct qvl_tensors *tensors; /* canonical names; views into the files and into `owned`. NULL with config_only */
    void **owned;                /* tensors that had to be put together */
    size_t n_owned;
};

/* Opens `path`: a .gguf file, or a folder with one model in such files. `mmproj` names the vision file; NULL looks for it
 * in the folder of the text file. config_only: the vision half may be missing (then the configuration assumes the tower of the
 * 4B model; has_vision tells), and tensors are not prepared. */
int qvl_gguf_model_open(struct qvl_gguf_model *m, const char *path, const char *mmproj, int config_only, qvl_err *err);
/* The text half alone, wherever it is: tensors have no vision names, and the configuration assumes a tower. */
int qvl_gguf_model_open_text(struct qvl_gguf_model *m, const char *path, int config_only, qvl_err *err);
/* The vision half alone: a file of it, a folder with one, or a file with both. It must fit a decoder of this width. */
int qvl_gguf_model_open_vision(struct qvl_gguf_model *m, const char *path, int d_model, qvl_err *err);
/* What the text half says about the number of DeepStack levels, against those of a tower; `where` names the tower. */
int qvl_gguf_model_check_taps(const struct qvl_gguf_model *m, int n_tap, const char *where, qvl_err *err);
void qvl_gguf_model_close(struct qvl_gguf_model *m);

/* 1 if qvl_gguf_model_open is the way to open this path: a GGUF file by its first bytes, or a folder with *.gguf files
 * that is not a safetensors model. */
int qvl_gguf_model_is(const char *path);

#endif
