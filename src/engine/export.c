/* export.c - a model as two GGUF files: opened with its weights as they are stored, described (model/gguf_export.h), given tokenizer
 * and template, and written aside; both files take their names only when both are complete. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "engine/internal.h"
#include "model/gguf_export.h"
#include "text/tokenizer_dump.h"

enum { TEXT, VISION, HALVES, MAX_PATH = 1 << 16, MAX_TEXTS = 1 << 30 };

struct exporting {
    const struct qvl_export_params *p;
    struct qvl_model *m;
    enum qvl_dtype type[HALVES];
    struct qvl_gguf_export half[HALVES];
    char *path[HALVES];
    struct qvl_out out[HALVES];
};

void qvl_export_params_default(qvl_export_params *p) { *p = (qvl_export_params){.struct_size = sizeof *p}; }

/* ---------------------------------------------------------------- tokenizer and template */

static int put_tokens(struct qvl_gguf_writer *w, const struct qvl_tokenizer *t, int n_vocab, qvl_err *err)
{
    struct qvl_buf b;
    int32_t *kinds = qvl_alloc((size_t)n_vocab, sizeof *kinds);
    if (!kinds)
        return qvl_fail_nomem(err, (size_t)n_vocab * sizeof *kinds, "tokens");
    qvl_buf_init(&b, MAX_TEXTS);
    qvl_gguf_put_texts(w, "tokenizer.ggml.tokens", (size_t)n_vocab);
    for (int i = 0; i < n_vocab; i++) {
        b.len = 0;
        kinds[i] = (int32_t)qvl_tokenizer_entry(t, i, &b);
        qvl_gguf_put_next(w, b.len ? b.data : "", b.len);
    }
    qvl_gguf_put_i32s(w, "tokenizer.ggml.token_type", kinds, (size_t)n_vocab);
    int failed = b.failed;
    qvl_buf_free(&b);
    qvl_mem_free(kinds);
    return failed ? qvl_fail_nomem(err, 0, "tokens") : 0;
}

static int put_merges(struct qvl_gguf_writer *w, const struct qvl_tokenizer *t, qvl_err *err)
{
    struct qvl_merge_pair *list;
    struct qvl_buf b;
    size_t n;
    QVL_TRY(qvl_tokenizer_merges(t, &list, &n, err));
    qvl_buf_init(&b, MAX_TEXTS);
    qvl_gguf_put_texts(w, "tokenizer.ggml.merges", n);
    for (size_t i = 0; i < n; i++) {
        b.len = 0;
        qvl_tokenizer_entry(t, list[i].left, &b);
        qvl_buf_putc(&b, ' ');
        qvl_tokenizer_entry(t, list[i].right, &b);
        qvl_gguf_put_next(w, b.len ? b.data : "", b.len);
    }
    int failed = b.failed;
    qvl_buf_free(&b);
    qvl_mem_free(list);
    return failed ? qvl_fail_nomem(err, 0, "merges") : 0;
}

static void put_id(struct qvl_gguf_writer *w, const char *key, int32_t id)
{
    if (id >= 0)
        qvl_gguf_put_u32(w, key, (uint32_t)id);
}

static int put_tokenizer(struct qvl_gguf_writer *w, const struct qvl_model *m, qvl_err *err)
{
    const struct qvl_generation_config *gen = &m->config.gen;
    int32_t end = qvl_tokenizer_find(m->tokenizer, "<|endoftext|>"), turn = qvl_tokenizer_find(m->tokenizer, "<|im_end|>");
    qvl_gguf_put_text(w, "tokenizer.ggml.model", "gpt2", 4);
    qvl_gguf_put_text(w, "tokenizer.ggml.pre", "qwen2", 5);
    QVL_TRY(put_tokens(w, m->tokenizer, m->config.text.n_vocab, err));
    QVL_TRY(put_merges(w, m->tokenizer, err));
    put_id(w, "tokenizer.ggml.eos_token_id", turn >= 0 ? turn : gen->n_eos ? gen->eos[0] : end);
    put_id(w, "tokenizer.ggml.padding_token_id", end);
    put_id(w, "tokenizer.ggml.bos_token_id", end);
    qvl_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", 0);
    qvl_gguf_put_bool(w, "tokenizer.ggml.add_eos_token", 0);
    size_t len;
    const char *source = qvl_template_source(m->template, &len);
    if (source && len)
        qvl_gguf_put_text(w, "tokenizer.chat_template", source, len);
    return 0;
}

/* ---------------------------------------------------------------- names */

/* What the model calls itself in a GGUF file, else its folder or file, fit for a file name. From qvl_alloc. */
static char *model_name(const struct qvl_model *m)
{
    struct qvl_gguf_text t = {0};
    size_t n = strlen(m->name);
    if (m->gguf.text && qvl_gguf_string(m->gguf.text, "general.name", &t, NULL) == 0 && t.len && t.len < 128)
        n = 0;
    else if (n > 5 && strcmp(m->name + n - 5, ".gguf") == 0)
        n -= 5;
    char *name = n ? qvl_strndup(m->name, n) : qvl_strndup(t.s, t.len);
    for (char *s = name; s && *s; s++)
        if (*s == ' ' || *s == '/' || (unsigned char)*s < 32)
            *s = '-';
    return name;
}

static int set_path(struct exporting *x, int half, const char *dir, size_t dir_len, const char *name, const char *label, qvl_err *err)
{
    struct qvl_buf b;
    qvl_buf_init(&b, MAX_PATH);
    qvl_buf_printf(&b, "%.*s%s%s%s%s%s", (int)dir_len, dir, half == VISION ? "mmproj-" : "", name, label ? "-" : "", label ? label : "",
                   label ? ".gguf" : "");
    x->path[half] = qvl_buf_take(&b, NULL);
    if (!x->path[half])
        return qvl_fail(err, QVL_E_LIMIT, "%s: the path is too long", x->p->out);
    if (!x->p->force && (qvl_file_exists(x->path[half]) || qvl_dir_exists(x->path[half])))
        return qvl_fail(err, QVL_E_ARG, "%s: exists (--force replaces it)", x->path[half]);
    return 0;
}

/* DIR/NAME-TYPE.gguf and DIR/mmproj-NAME-TYPE.gguf; see qvl_export_params. */
static int set_paths(struct exporting *x, const char *name, qvl_err *err)
{
    const char *out = x->p->out, *slash = strrchr(out, '/');
    size_t n = strlen(out), dir_len = slash ? (size_t)(slash + 1 - out) : 0;
    const char *base = out + dir_len;
    char *dir = NULL;
    if (*base && qvl_dir_exists(out)) {
        struct qvl_buf b;
        qvl_buf_init(&b, MAX_PATH);
        qvl_buf_printf(&b, "%s/", out);
        dir = qvl_buf_take(&b, NULL);
        if (!dir)
            return qvl_fail(err, QVL_E_LIMIT, "%s: the path is too long", out);
        out = dir;
        dir_len = n + 1;
        base = name;
    } else if (!*base) {
        if (mkdir(out, 0777) != 0 && !qvl_dir_exists(out))
            return qvl_fail_errno(err, errno, "%s: cannot make the folder", out);
        base = name;
    }
    int whole = base != name && n > 5 && strcmp(out + n - 5, ".gguf") == 0, rc = 0;
    for (int h = TEXT; h < HALVES && rc == 0; h++)
        rc = set_path(x, h, out, dir_len, base, whole ? NULL : qvl_gguf_export_label(&x->half[h], x->type[h]), err);
    qvl_mem_free(dir);
    return rc;
}

/* ---------------------------------------------------------------- all of it */

static int plan(struct exporting *x, qvl_err *err)
{
    const char *vision = x->p->mmproj_type ? x->p->mmproj_type : "f16";
    QVL_TRY(qvl_gguf_export_type(&x->type[TEXT], x->p->type, 0, "type", err));
    QVL_TRY(qvl_gguf_export_type(&x->type[VISION], vision, 1, "mmproj type", err));
    char *name = model_name(x->m);
    if (!name)
        return qvl_fail_nomem(err, strlen(x->m->name), "model name");
    int rc = 0;
    for (int h = TEXT; h < HALVES && rc == 0; h++)
        rc = qvl_gguf_export_plan(&x->half[h], &x->m->config, &x->m->weights, h == VISION, x->type[h], name, err);
    if (rc == 0)
        rc = put_tokenizer(&x->half[TEXT].w, x->m, err);
    if (rc == 0)
        rc = set_paths(x, name, err);
    qvl_mem_free(name);
    return rc;
}

static int write_halves(struct exporting *x, struct qvl_pool *pool, qvl_err *err)
{
    struct qvl_watch watch = {.progress = x->p->progress, .ud = x->p->progress_ud, .stage = "write"};
    uint64_t bytes = 0;
    for (int h = TEXT; h < HALVES; h++) {
        watch.total += x->half[h].w.bytes;
        bytes += qvl_gguf_writer_bytes(&x->half[h].w);
        QVL_TRY(qvl_out_open(&x->out[h], x->path[h], err));
    }
    QVL_TRY(qvl_out_need(&x->out[TEXT], bytes, err));
    for (int h = TEXT; h < HALVES; h++)
        QVL_TRY(qvl_gguf_export_write(&x->half[h], &x->out[h], pool, &watch, err));
    for (int h = TEXT; h < HALVES; h++)
        QVL_TRY(qvl_out_commit(&x->out[h], err));
    return 0;
}

static double loss(const struct qvl_gguf_export *x) { return x->loss.norm > 0 ? sqrt(x->loss.error / x->loss.norm) : 0; }

static void tell(struct exporting *x, qvl_export_result *result)
{
    qvl_export_result full = {
        .struct_size = result->struct_size,
        .text_path = x->path[TEXT],
        .mmproj_path = x->path[VISION],
        .text_bytes = qvl_gguf_writer_bytes(&x->half[TEXT].w),
        .mmproj_bytes = qvl_gguf_writer_bytes(&x->half[VISION].w),
        .text_loss = loss(&x->half[TEXT]),
        .mmproj_loss = loss(&x->half[VISION]),
    };
    memcpy(result, &full, result->struct_size < sizeof full ? result->struct_size : sizeof full);
    x->path[TEXT] = x->path[VISION] = NULL; /* moved */
}

int qvl_export_gguf(const qvl_model_params *model, const qvl_export_params *params, qvl_export_result *result, qvl_err *err)
{
    qvl_export_params p;
    struct qvl_pool *pool = NULL;
    qvl_export_params_default(&p);
    if (!model || !params || (result && result->struct_size < sizeof *result))
        return qvl_fail(err, QVL_E_ARG, "qvl_export_gguf: model or params is NULL, or result->struct_size is not set");
    if (params->struct_size < sizeof(size_t) || params->struct_size > 4096)
        return qvl_fail(err, QVL_E_ARG, "qvl_export_params.struct_size is %zu: use the ..._default() function first", params->struct_size);
    memcpy(&p, params, params->struct_size < sizeof p ? params->struct_size : sizeof p);
    if (!p.out || !*p.out)
        return qvl_fail(err, QVL_E_ARG, "qvl_export_gguf: no place to write to");
    struct exporting x = {.p = &p, .out = {{.fd = -1}, {.fd = -1}}};
    int rc = qvl_model_open_as(&x.m, model, 1, err);
    if (rc == 0)
        rc = x.m->tensors ? plan(&x, err) : qvl_fail(err, QVL_E_ARG, "qvl_export_gguf: a model without weights");
    if (rc == 0)
        rc = qvl_pool_open(&pool, qvl_cpu_threads(), err);
    if (rc == 0)
        rc = write_halves(&x, pool, err);
    if (rc == 0 && result)
        tell(&x, result);
    qvl_pool_close(&pool);
    for (int h = TEXT; h < HALVES; h++) {
        qvl_out_close(&x.out[h]);
        qvl_gguf_export_free(&x.half[h]);
        qvl_mem_free(x.path[h]);
    }
    qvl_model_close(&x.m);
    return rc;
}
