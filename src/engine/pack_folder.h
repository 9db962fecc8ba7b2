/* pack_folder.h - the folder that qvl_pack writes: made under another name beside its place, and moved there when it is whole. */
#ifndef QVL_ENGINE_PACK_FOLDER_H
#define QVL_ENGINE_PACK_FOLDER_H

#include "engine/internal.h"

struct qvl_pack_folder {
    char *dir, *stage; /* where it will be, and where it is made */
    int exists;        /* dir is there, with files of its own */
};

/* Checks the place and makes the stage. What is there and is not empty is refused; with `force` only what is no packed model
 * of ours. */
int qvl_pack_folder_open(struct qvl_pack_folder *f, const char *dir, int force, qvl_err *err);
/* Path of a file in the stage, from qvl_alloc; NULL: no memory. */
char *qvl_pack_folder_path(const struct qvl_pack_folder *f, const char *name);
/* Everything but the weights: configuration with `note`, a JSON object, as its member "qvl"; tokenizer, template, settings. */
int qvl_pack_folder_texts(const struct qvl_pack_folder *f, const struct qvl_model *m, const char *note, qvl_err *err);
/* Moves the stage to its place. */
int qvl_pack_folder_commit(struct qvl_pack_folder *f, qvl_err *err);
/* Removes the stage, unless it was moved, and frees. Always safe. */
void qvl_pack_folder_close(struct qvl_pack_folder *f);

#endif
