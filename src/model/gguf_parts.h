/* gguf_parts.h - what the files around gguf_model.c share. */
#ifndef QVL_MODEL_GGUF_PARTS_H
#define QVL_MODEL_GGUF_PARTS_H

#include "model/gguf_model.h"

/* ---- gguf_find.c */
/* The path of the text model: `path` itself, or the only model of a folder. From qvl_alloc. */
int qvl_gguf_find_text(char **out, const char *path, qvl_err *err);
/* The vision file for a text model of width d_model, looked for in the text file's folder; *out = NULL when there is none. */
int qvl_gguf_find_mmproj(char **out, const char *text_path, int d_model, qvl_err *err);
/* The vision file that `path` means: itself, or the one of a folder. From qvl_alloc. */
int qvl_gguf_find_vision(char **out, const char *path, int d_model, qvl_err *err);

/* ---- gguf_config.c */
/* "qwen3vl" or "qwen3vlmoe"; anything else is an error that says what the file is. */
int qvl_gguf_text_arch(const struct qvl_gguf *g, const char **arch, qvl_err *err);
/* 1 when the text file holds the vision half, too. */
int qvl_gguf_single(const struct qvl_gguf *g, const char *arch);
int qvl_gguf_config_text(struct qvl_config *c, const struct qvl_gguf *g, const char *arch, qvl_err *err);
/* g: the vision file, or the single file. The text configuration comes first. */
int qvl_gguf_config_vision(struct qvl_config *c, const struct qvl_gguf *g, const char *arch, int single, qvl_err *err);

#endif
