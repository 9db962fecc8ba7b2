/* hub.h - models by name: what a name says, where the local cache is, and which files in it the name stands for.
 *
 * The cache is the one that the huggingface_hub client keeps, shared in both directions:
 *   CACHE/models--ORG--NAME/refs/REVISION             the commit, 40 hexadecimal digits
 *   CACHE/models--ORG--NAME/snapshots/COMMIT/PATH     link to ../../blobs/ETAG
 *   CACHE/models--ORG--NAME/blobs/ETAG                the bytes; ETAG.incomplete while they are fetched
 *   CACHE/.locks/models--ORG--NAME/ETAG.lock          flock() of whoever fetches
 * Nothing here uses the network; pull.h does. */
#ifndef QVL_HUB_HUB_H
#define QVL_HUB_HUB_H

#include <stddef.h>

#include "qvl.h"

enum { QVL_HUB_REPO = 128, QVL_HUB_REV = 256, QVL_HUB_FILE = 512 };

/* "ORG/NAME[/FILE...][:QUANT][@REVISION]" taken apart. Every part is safe as part of a path. */
struct qvl_hub_name {
    char repo[QVL_HUB_REPO]; /* "ORG/NAME" or "NAME" */
    char rev[QVL_HUB_REV];   /* "" = not said */
    char file[QVL_HUB_FILE]; /* a file or folder inside the repository, or "" */
    char quant[QVL_HUB_REPO]; /* of a GGUF repository: "Q4_K_M", or a file's name; "" = not said */
};
/* `revision` (may be NULL) beats none in the text and contradicts another one there. Prefixes "hf.co/" and of an endpoint
 * ("https://host/") are left out. QVL_E_ARG when the text cannot be a name; then n->repo is empty unless that
 * part is right and another one is wrong. */
int qvl_hub_name_parse(struct qvl_hub_name *n, const char *text, const char *revision, qvl_err *err);

/* 1 if s is exactly n hexadecimal digits in lower case. */
int qvl_hub_is_hex(const char *s, size_t n);
/* 1 if the path, as a server or a manifest gives it, names something below the folder it is relative to. */
int qvl_hub_safe_path(const char *s);
/* The same for one component made of letters, digits, '.', '_', '-'. */
int qvl_hub_safe_word(const char *s);

/* What the environment says. Strings are owned; NULL where nothing is known. */
struct qvl_hub_env {
    char *home;       /* HF_HOME */
    char *cache;      /* HF_HUB_CACHE, ...; NULL when there is no home folder */
    char *endpoint;   /* without a slash at its end */
    char *token;      /* NULL = none */
    char *token_path; /* where a token would be looked for */
    const char *offline; /* the name of the variable that forbids the network, or NULL */
    int token_forbidden; /* HF_HUB_DISABLE_IMPLICIT_TOKEN */
    int no_symlinks;
    long metadata_s, download_s; /* seconds without an answer before a try counts as failed */
};
/* want_token: the token is read, too; one that cannot be is an error. */
int qvl_hub_env_read(struct qvl_hub_env *e, int want_token, qvl_err *err);
void qvl_hub_env_free(struct qvl_hub_env *e);

/* CACHE/models--ORG--NAME; from qvl_alloc, NULL: no memory. */
char *qvl_hub_repo_folder(const struct qvl_hub_env *e, const char *repo);

/* A model argument that was looked up. */
struct qvl_hub_found {
    char *path;   /* folder or file to open */
    char *mmproj; /* vision half of a GGUF model when it is not simply beside `path`; else NULL */
    char *name;   /* for people: "Qwen3-VL-4B-Instruct" */
};
void qvl_hub_found_free(struct qvl_hub_found *f);
/* An existing path stands for itself (a cache folder models--ORG--NAME for its main revision, an Ollama manifest for its blobs);
 * anything else is looked up as a name in the hub cache, then in Ollama's store. need_weights: a snapshot without all
 * its weights is an error that names what is missing. */
int qvl_hub_resolve(struct qvl_hub_found *f, const char *text, const char *revision, int need_weights, qvl_err *err);

/* ---- hub_gguf.c: which of a repository's files make up a model.
 * Marks (chosen[i] = 1) among n paths all parts of one text model and, with want_mmproj, one vision file. quant "" prefers
 * Q4_K_M, then Q8_0, then the only one. *text, *mmproj (-1: none): index of the first part. `what` names the repository. */
int qvl_hub_gguf_choose(const char *const *paths, size_t n, const char *quant, unsigned char *chosen, int *text, int *mmproj,
                        const char *what, qvl_err *err);
/* 1 if the path ends like this, in any case of letters. */
int qvl_hub_ends(const char *path, const char *tail);

/* ---- ollama.c
 * 1 and f filled when the store has this name; 0 (and *looked filled for a message) when it has not. */
int qvl_ollama_find(struct qvl_hub_found *f, const char *text, char *looked, size_t looked_size, qvl_err *err);
/* 1 and f filled when the file is a manifest; 0 when it is something else. */
int qvl_ollama_manifest(struct qvl_hub_found *f, const char *path, qvl_err *err);

#endif
