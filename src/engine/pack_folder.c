/* pack_folder.c - see pack_folder.h. */
#include "engine/pack_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

enum { MAX_TEXT = 256 << 20, MAX_CONFIG = 16 << 20 };

static const char weights_name[] = "model.safetensors", config_name[] = "config.json";

/* What a model's folder can hold beside its weights and its configuration. */
static const char *const texts[] = {
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json",
    "chat_template.jinja", "chat_template.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
    "video_preprocessor_config.json", "LICENSE",
};
static const char *const templates[] = {"chat_template.jinja", "chat_template.json", "tokenizer_config.json"};

/* ---------------------------------------------------------------- the place */

int qvl_model_is_packed(const char *path)
{
    json_t *root = NULL;
    char *file = path ? qvl_path_join(path, config_name) : NULL;
    int yes = file && qvl_file_exists(file) && qvl_json_read_texts(&root, file, MAX_CONFIG, NULL) == 0 &&
              json_is_object(json_object_get(root, "qvl"));
    json_decref(root);
    qvl_mem_free(file);
    return yes;
}

static int ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* Number of entries; *other = 1 when some of them look like a model that is not ours. */
static int look(const char *dir, size_t *n, int *other, qvl_err *err)
{
    const struct dirent *e;
    int weights = 0;
    DIR *d = opendir(dir);
    *n = 0;
    if (!d)
        return qvl_fail_errno(err, errno, "%s: cannot read the folder", dir);
    while ((e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        (*n)++;
        weights |= ends_with(e->d_name, ".safetensors") || ends_with(e->d_name, ".gguf") || ends_with(e->d_name, ".onnx") ||
                   strcmp(e->d_name, config_name) == 0;
    }
    closedir(d);
    *other = weights && !qvl_model_is_packed(dir);
    return 0;
}

int qvl_pack_folder_open(struct qvl_pack_folder *f, const char *dir, int force, qvl_err *err)
{
    size_t n = strlen(dir), entries = 0;
    int other = 0;
    struct stat st;
    *f = (struct qvl_pack_folder){0};
    while (n > 1 && dir[n - 1] == '/')
        n--;
    if (stat(dir, &st) == 0) {
        if (!S_ISDIR(st.st_mode))
            return qvl_fail(err, QVL_E_ARG, "%s: exists and is not a folder", dir);
        QVL_TRY(look(dir, &entries, &other, err));
        if (other)
            return qvl_fail(err, QVL_E_ARG, "%s: holds another model, which is not replaced: choose another folder", dir);
        if (entries && !force)
            return qvl_fail(err, QVL_E_ARG, "%s: exists and is not empty: choose another folder, or --force to write into it", dir);
        f->exists = entries > 0;
    }
    f->dir = qvl_strndup(dir, n);
    char *stage = qvl_alloc(n + 32, 1);
    if (!f->dir || !stage) {
        qvl_mem_free(stage);
        return qvl_fail_nomem(err, n, dir);
    }
    snprintf(stage, n + 32, "%s.tmp-%ld", f->dir, (long)getpid());
    if (mkdir(stage, 0777) != 0) {
        int e = errno;
        qvl_mem_free(stage);
        return qvl_fail_errno(err, e, "%s: cannot create", dir);
    }
    f->stage = stage;
    return 0;
}

char *qvl_pack_folder_path(const struct qvl_pack_folder *f, const char *name) { return qvl_path_join(f->stage, name); }

/* Also the names of files and folders are on the disk afterwards. */
static void sync_folder(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    fsync(fd); /* systems that cannot do this do it anyway */
    close(fd);
}

/* 1 when there was something to move, and it was moved. */
static int move(const struct qvl_pack_folder *f, const char *name, int *moved, qvl_err *err)
{
    char *from = qvl_path_join(f->stage, name), *to = qvl_path_join(f->dir, name);
    int rc = from && to ? 0 : qvl_fail_nomem(err, strlen(f->dir), name);
    *moved = rc == 0 && qvl_file_exists(from);
    if (*moved && rename(from, to) != 0)
        rc = qvl_fail_errno(err, errno, "%s: cannot rename", to);
    else if (rc == 0 && !*moved && unlink(to) != 0 && errno != ENOENT) /* of another tokenizer, say */
        rc = qvl_fail_errno(err, errno, "%s: cannot remove", to);
    qvl_mem_free(from);
    qvl_mem_free(to);
    return rc;
}

/* Into a folder that is there. The configuration goes first and comes last: in between it is no model. */
static int merge(const struct qvl_pack_folder *f, qvl_err *err)
{
    char *config = qvl_path_join(f->dir, config_name);
    int moved, rc = config ? 0 : qvl_fail_nomem(err, strlen(f->dir), config_name);
    if (rc == 0 && unlink(config) != 0 && errno != ENOENT)
        rc = qvl_fail_errno(err, errno, "%s: cannot remove", config);
    qvl_mem_free(config);
    if (rc == 0)
        rc = move(f, weights_name, &moved, err);
    for (size_t i = 0; rc == 0 && i < QVL_COUNT(texts); i++)
        rc = move(f, texts[i], &moved, err);
    return rc == 0 ? move(f, config_name, &moved, err) : rc;
}

int qvl_pack_folder_commit(struct qvl_pack_folder *f, qvl_err *err)
{
    sync_folder(f->stage);
    if (f->exists)
        QVL_TRY(merge(f, err));
    else if (rename(f->stage, f->dir) != 0) /* also onto an empty folder */
        return qvl_fail_errno(err, errno, "%s: cannot rename", f->dir);
    if (f->exists)
        rmdir(f->stage);
    qvl_mem_free(f->stage);
    f->stage = NULL;
    char *parent = qvl_path_dir(f->dir);
    sync_folder(f->dir);
    if (parent)
        sync_folder(parent);
    qvl_mem_free(parent);
    return 0;
}

void qvl_pack_folder_close(struct qvl_pack_folder *f)
{
    const struct dirent *e;
    DIR *d = f->stage ? opendir(f->stage) : NULL;
    while (d && (e = readdir(d)) != NULL)
        unlinkat(dirfd(d), e->d_name, 0); /* fails for "." and ".."; no folder is made inside */
    if (d)
        closedir(d);
    if (f->stage)
        rmdir(f->stage);
    qvl_mem_free(f->stage);
    qvl_mem_free(f->dir);
    *f = (struct qvl_pack_folder){0};
}

/* ---------------------------------------------------------------- texts */

static int write_text(const struct qvl_pack_folder *f, const char *name, const char *text, size_t len, qvl_err *err)
{
    struct qvl_out out = {.fd = -1};
    char *path = qvl_pack_folder_path(f, name);
    int rc = path ? qvl_out_open(&out, path, err) : qvl_fail_nomem(err, strlen(name), name);
    if (rc == 0)
        rc = qvl_out_write(&out, text, len, err);
    if (rc == 0)
        rc = qvl_out_commit(&out, err);
    qvl_out_close(&out);
    qvl_mem_free(path);
    return rc;
}

/* Copies `name` when the folder has it. */
static int copy_text(const struct qvl_pack_folder *f, const char *dir, const char *name, qvl_err *err)
{
    char *path = qvl_path_join(dir, name), *text = NULL;
    size_t len = 0;
    int rc = path ? 0 : qvl_fail_nomem(err, strlen(dir), name);
    if (rc == 0 && qvl_file_exists(path)) {
        rc = qvl_file_read(&text, &len, path, MAX_TEXT, err);
        if (rc == 0)
            rc = write_text(f, name, text, len, err);
    }
    qvl_mem_free(text);
    qvl_mem_free(path);
    return rc;
}

/* The configuration as it is, but for the note as its first member. */
static int write_config(const struct qvl_pack_folder *f, const char *config, size_t len, const char *note, qvl_err *err)
{
    struct qvl_buf b;
    const char *open = memchr(config, '{', len); /* it was parsed before: an object that is not empty */
    qvl_buf_init(&b, MAX_CONFIG * 2);
    if (!open)
        return qvl_fail(err, QVL_E_FORMAT, "%s: is not an object", config_name);
    size_t at = (size_t)(open + 1 - config);
    qvl_buf_add(&b, config, at);
    qvl_buf_printf(&b, "\n  \"qvl\": %s,", note);
    qvl_buf_add(&b, config + at, len - at);
    int rc = b.failed ? qvl_fail_nomem(err, len, config_name) : write_text(f, config_name, b.data, b.len, err);
    qvl_buf_free(&b);
    return rc;
}

/* Nothing in the new folder is quantised as the source's configuration says. */
static int write_plain_config(const struct qvl_pack_folder *f, const char *config, size_t len, const char *note, qvl_err *err)
{
    static const char *const keys[] = {"quantization_config", "quantization", "compression_config"};
    json_t *root = NULL;
    struct qvl_buf b;
    QVL_TRY(qvl_json_parse(&root, config, len, config_name, err));
    for (size_t i = 0; i < QVL_COUNT(keys); i++) {
        json_object_del(root, keys[i]);
        json_object_del(json_object_get(root, "text_config"), keys[i]);
        json_object_del(json_object_get(root, "vision_config"), keys[i]);
    }
    qvl_buf_init(&b, MAX_CONFIG * 2);
    int rc = qvl_json_dump_python(&b, root) ? qvl_fail_nomem(err, len, config_name) : write_config(f, b.data, b.len, note, err);
    qvl_buf_free(&b);
    json_decref(root);
    return rc;
}

static int folder_texts(const struct qvl_pack_folder *f, const struct qvl_model *m, const char *note, qvl_err *err)
{
    char *path = qvl_path_join(m->dir, config_name), *config = NULL;
    size_t len = 0;
    int rc = path ? qvl_file_read(&config, &len, path, MAX_CONFIG, err) : qvl_fail_nomem(err, strlen(m->dir), config_name);
    if (rc == 0)
        rc = m->config.quant.method ? write_plain_config(f, config, len, note, err) : write_config(f, config, len, note, err);
    for (size_t i = 0; rc == 0 && i < QVL_COUNT(texts); i++)
        rc = copy_text(f, m->dir, texts[i], err);
    qvl_mem_free(config);
    qvl_mem_free(path);
    return rc;
}

/* The template from the metadata, else that of JSON files beside the GGUF file. */
static int gguf_template(const struct qvl_pack_folder *f, const struct qvl_model *m, qvl_err *err)
{
    struct qvl_gguf_text t;
    QVL_TRY(qvl_gguf_string(m->gguf.text, "tokenizer.chat_template", &t, err));
    if (t.s)
        return write_text(f, templates[0], t.s, t.len, err);
    char *dir = qvl_path_dir(qvl_gguf_path(m->gguf.text));
    int rc = dir ? 0 : qvl_fail_nomem(err, 0, "chat template");
    for (size_t i = 0; rc == 0 && i < QVL_COUNT(templates); i++)
        rc = copy_text(f, dir, templates[i], err);
    qvl_mem_free(dir);
    return rc;
}

/* One JSON file from the configuration in memory. */
static int made_text(const struct qvl_pack_folder *f, const char *name, const struct qvl_config *c,
                     int (*make)(struct qvl_buf *, const struct qvl_config *, qvl_err *), qvl_err *err)
{
    struct qvl_buf b;
    qvl_buf_init(&b, MAX_CONFIG);
    int rc = make(&b, c, err);
    if (rc == 0)
        rc = write_text(f, name, b.data, b.len, err);
    qvl_buf_free(&b);
    return rc;
}

static int gguf_texts(const struct qvl_pack_folder *f, const struct qvl_model *m, const char *note, qvl_err *err)
{
    static const char tokenizer_config[] = "{\"tokenizer_class\": \"Qwen2Tokenizer\"}\n";
    struct qvl_buf b;
    size_t skipped, merges;
    qvl_buf_init(&b, MAX_CONFIG);
    int rc = qvl_config_write(&b, &m->config, err);
    if (rc == 0)
        rc = write_config(f, b.data, b.len, note, err);
    qvl_buf_free(&b);
    QVL_TRY(rc);
    QVL_TRY(made_text(f, "generation_config.json", &m->config, qvl_config_write_generation, err));
    QVL_TRY(made_text(f, "preprocessor_config.json", &m->config, qvl_config_write_preprocessor, err));
    QVL_TRY(write_text(f, "tokenizer_config.json", tokenizer_config, sizeof tokenizer_config - 1, err));
    QVL_TRY(gguf_template(f, m, err));
    rc = qvl_model_gguf_tokenizer(&b, m, &skipped, &merges, err);
    if (rc == 0)
        rc = write_text(f, "tokenizer.json", b.data, b.len, err);
    qvl_buf_free(&b);
    return rc;
}

int qvl_pack_folder_texts(const struct qvl_pack_folder *f, const struct qvl_model *m, const char *note, qvl_err *err)
{
    return m->gguf.text ? gguf_texts(f, m, note, err) : folder_texts(f, m, note, err);
}
