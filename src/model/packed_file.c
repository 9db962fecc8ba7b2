/* packed_file.c - packed models to and from files: packed.h's format. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "formats/tensor_set.h"
#include "model/convert_q4.h"
#include "model/foreign.h"
#include "model/packed_items.h"

#define LAYOUT "x86-lane4" /* of kernels/quant.h; every level computes with it */
#define GROUP "32"

/* ---------------------------------------------------------------- writing */

struct writer {
    struct qvl_packing *p;
    const struct qvl_pack_list *l;
    struct qvl_tensor *tensors; /* [l->n], in the order of the list */
    struct qvl_quant_error sum;
    unsigned char *room;        /* of one slab */
    size_t room_bytes;
};

static int stream(struct writer *w, const struct qvl_pack_item *it, struct qvl_pack_job *j, struct qvl_out *out, qvl_err *err)
{
    int64_t step = qvl_pack_job_rows(j);
    size_t need = it->bytes; /* at most: a slab is never larger than the matrix */
    if (step < it->n_out)
        need = qvl_pack_rows_bytes(it, step);
    if (need > w->room_bytes) {
        qvl_mem_free(w->room);
        w->room_bytes = 0;
        w->room = qvl_alloc(need, 1);
        if (!w->room)
            return qvl_fail_nomem(err, need, "packing");
        w->room_bytes = need;
    }
    for (int64_t row = 0, end; row < it->n_out; row = end) {
        end = row + step < it->n_out ? row + step : it->n_out;
        size_t n = qvl_pack_job_run(j, row, end, w->room, &w->sum);
        QVL_TRY(qvl_out_write(out, w->room, n, err));
        QVL_TRY(qvl_pack_tick(w->p, n, err));
    }
    return 0;
}

static int put(void *ud, const struct qvl_tensor *t, struct qvl_out *out, qvl_err *err)
{
    struct writer *w = ud;
    const struct qvl_pack_item *it = &w->l->item[t - w->tensors];
    struct qvl_pack_job *j = NULL;
    if (!it->mat) {
        QVL_TRY(qvl_out_write(out, it->vec, it->bytes, err));
        return qvl_pack_tick(w->p, it->bytes, err);
    }
    int rc = qvl_pack_job_open(&j, w->p, it, err);
    if (rc == 0)
        rc = stream(w, it, j, out, err);
    qvl_pack_job_close(&j);
    return rc;
}

/* "decoded": numbers that were blocks. */
static const char *table_kind(const struct qvl_packing *p)
{
    const struct qvl_mat *t = &p->w->text.embed;
    int exact, numbers = t->data == p->w->text.head.data && !qvl_pack_is(p->o.head);
    return !qvl_dtype_is_foreign(t->type) || qvl_dtype_is_ggml(t->type) || numbers || (qvl_convert_q4_can(t, &exact) && exact) ? "stored"
                                                                                                                            : "decoded";
}

int qvl_pack_write(const char *path, const struct qvl_tensor_meta *meta, size_t n_meta, struct qvl_packing *p, qvl_err *err)
{
    const struct qvl_tensor_meta own[] = {{"format", "qvl"}, {"qvl.pack", QVL_PACK_VERSION}, {"qvl.layout", LAYOUT}, {"qvl.group", GROUP},
                                          {"qvl.holds", p->whole ? "all" : "text"}, {"qvl.text", qvl_pack_kind(p->o.text)},
                                          {"qvl.head", qvl_pack_kind(p->o.head)},
                                          {"qvl.table", table_kind(p)}};
    enum { OWN = QVL_COUNT(own), MORE = 4 };
    struct qvl_tensor_meta all[OWN + MORE];
    struct qvl_weights source = *p->w; /* the walk hands out places to write to; here they are only read */
    struct qvl_pack_list l;
    char (*names)[QVL_PACK_FILE_NAME] = NULL;
    if (n_meta > MORE)
        return qvl_fail(err, QVL_E_ARG, "%s: too many lines of metadata", path);
    memcpy(all, own, sizeof own);
    if (n_meta)
        memcpy(all + OWN, meta, n_meta * sizeof *meta);
    int rc = qvl_pack_collect(&l, &source, p->c, &p->o, p->whole, err);
    if (rc == 0)
        qvl_pack_choose(&l, &p->o);
    struct writer w = {.p = p, .l = &l};
    if (rc == 0 && (!(w.tensors = qvl_calloc(l.n, sizeof *w.tensors)) || !(names = qvl_calloc(l.n, sizeof *names))))
        rc = qvl_fail_nomem(err, l.n * (sizeof *w.tensors + sizeof *names), "the list of tensors");
    for (size_t i = 0; rc == 0 && i < l.n; i++)
        w.tensors[i] = qvl_pack_tensor(&l.item[i], names[i]);
    if (rc == 0)
        rc = qvl_safetensors_write_streamed(path, w.tensors, l.n, all, OWN + n_meta, QVL_ALIGN, put, &w, err);
    p->packed_bytes = l.packed_bytes;
    p->rms_error = qvl_pack_rms(&w.sum);
    qvl_mem_free(w.room);
    qvl_mem_free(w.tensors);
    qvl_mem_free(names);
    qvl_mem_free(l.item);
    return rc;
}

/* ---------------------------------------------------------------- reading */

int qvl_pack_check(const struct qvl_tensor *found, const struct qvl_tensor *want, const char *path, qvl_err *err)
{
    char a[96], b[96];
    if (!found)
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: missing, but the file says it is packed", path, want->name);
    if (found->type != want->type || found->rank != want->rank ||
        memcmp(found->shape, want->shape, (size_t)want->rank * sizeof want->shape[0]) != 0)
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: found %s, expected %s", found->file, found->name,
                        qvl_tensor_describe(found, a, sizeof a), qvl_tensor_describe(want, b, sizeof b));
    if (found->rank == 3 && (uintptr_t)found->data % QVL_ALIGN) /* kernels load whole vectors; mappings begin at a page */
        return qvl_fail(err, QVL_E_FORMAT, "%s: tensor %s: begins at byte %llu, expected a multiple of %d", found->file, found->name,
                        (unsigned long long)found->offset, QVL_ALIGN);
    return 0;
}

/* What a key must say; *which is the index of the word found. */
static int expect(const struct qvl_tensors *t, const char *key, const char *const *words, int n, int *which, qvl_err *err)
{
    const char *found = qvl_tensors_meta(t, key);
    char list[64] = "";
    for (*which = 0; *which < n; (*which)++) {
        size_t at = strlen(list);
        if (found && strcmp(found, words[*which]) == 0)
            return 0;
        snprintf(list + at, sizeof list - at, "%s%s", at ? " or " : "", words[*which]);
    }
    return qvl_fail(err, QVL_E_UNSUPPORTED, "%s: metadata %s: found %.40s, expected %s", qvl_tensors_path(t), key,
                    found ? found : "nothing", list);
}

static int read_meta(struct qvl_pack_options *o, const struct qvl_tensors *t, qvl_err *err)
{
    static const char *const versions[] = {QVL_PACK_VERSION}, *const layouts[] = {LAYOUT}, *const groups[] = {GROUP},
                             *const holds[] = {"all"}, *const kinds[] = {"q4", "q8", "bf16"};
    static const char *const tables[] = {"stored", "decoded"};
    static const enum qvl_dtype types[] = {QVL_DT_Q4, QVL_DT_Q8, QVL_DT_UNKNOWN};
    int text, head, table, other;
    QVL_TRY(expect(t, "qvl.pack", versions, 1, &other, err));
    QVL_TRY(expect(t, "qvl.layout", layouts, 1, &other, err));
    QVL_TRY(expect(t, "qvl.group", groups, 1, &other, err));
    QVL_TRY(expect(t, "qvl.holds", holds, 1, &other, err));
    QVL_TRY(expect(t, "qvl.text", kinds, 2, &text, err));
    QVL_TRY(expect(t, "qvl.head", kinds, 3, &head, err));
    QVL_TRY(expect(t, "qvl.table", tables, 2, &table, err));
    *o = (struct qvl_pack_options){.text = types[text], .head = types[head], .decoded_table = table};
    return 0;
}

/* One tensor under its canonical name and with its true shape; `kept` keeps the name. */
static int view(struct qvl_tensors *set, const struct qvl_pack_item *it, char *kept, const struct qvl_tensors *file, qvl_err *err)
{
    char name[QVL_PACK_FILE_NAME];
    struct qvl_tensor want = qvl_pack_tensor(it, name);
    const struct qvl_tensor *found = qvl_tensors_find(file, name);
    QVL_TRY(qvl_pack_check(found, &want, qvl_tensors_path(file), err));
    struct qvl_tensor t = *found;
    memcpy(kept, it->name, QVL_PACK_NAME);
    t.name = kept;
    t.type = it->type;
    t.type_name = it->type == QVL_DT_Q4    ? "Q4"
                  : it->type == QVL_DT_Q4M ? "Q4M"
                  : it->type == QVL_DT_Q8  ? "Q8"
                                           : qvl_dtype_name(it->type);
    t.rank = 2;
    t.shape[0] = it->n_out;
    t.shape[1] = it->n_in;
    set->list[set->n++] = t;
    return 0;
}

/* The embedding, when it is stored in blocks or packed. */
static int view_table(struct qvl_tensors *set, char *kept, const struct qvl_tensors *file, const struct qvl_text_config *c, qvl_err *err)
{
    struct qvl_pack_item it = {.name = "language_model.embed_tokens.weight", .n_out = c->n_vocab, .n_in = c->d_model};
    char name[QVL_PACK_FILE_NAME];
    for (int t = QVL_DT_GGML_FIRST - 1; t <= QVL_DT_GGML_LAST; t++) {
        it.type = t < QVL_DT_GGML_FIRST ? QVL_DT_Q4 : (enum qvl_dtype)t;
        if (qvl_dtype_is_ggml(it.type) && it.n_in % qvl_dtype_block_elems(it.type))
            continue;
        qvl_pack_shape(&it);
        qvl_pack_tensor(&it, name);
        if (qvl_tensors_find(file, name))
            return view(set, &it, kept, file, err);
    }
    return 0;
}

/* The packed matrices, then everything that is a tensor of numbers. */
static int fill(struct qvl_tensors *set, const struct qvl_pack_list *l, const struct qvl_tensors *file, const struct qvl_text_config *c,
                qvl_err *err)
{
    char *kept = set->files[0].strings = qvl_calloc(l->n + 1, QVL_PACK_NAME);
    if (!kept)
        return qvl_fail_nomem(err, l->n * QVL_PACK_NAME, "names of tensors");
    QVL_TRY(view_table(set, kept, file, c, err));
    for (size_t i = 0; i < l->n; i++)
        QVL_TRY(view(set, &l->item[i], kept += QVL_PACK_NAME, file, err));
    for (size_t i = 0; i < qvl_tensors_count(file); i++)
        if (qvl_tensors_at(file, i)->type != QVL_DT_U8) /* bytes are what a suffix says */
            set->list[set->n++] = *qvl_tensors_at(file, i);
    return qvl_tensors_index(set, err);
}

int qvl_pack_views(struct qvl_tensors **views, struct qvl_pack_options *o, uint64_t *packed_bytes, const struct qvl_tensors *file,
                   const struct qvl_config *c, qvl_err *err)
{
    struct qvl_pack_list l = {0};
    struct qvl_tensors *set = NULL;
    int rc;
    *views = NULL;
    if (!qvl_tensors_meta(file, "qvl.pack"))
        return 0;
    QVL_TRY(read_meta(o, file, err));
    QVL_TRY_DONE(qvl_pack_collect(&l, NULL, c, o, 0, err));
    qvl_pack_as_stored(&l, file);
    QVL_TRY_DONE(qvl_tensors_new(&set, qvl_tensors_path(file), err));
    QVL_TRY_DONE(qvl_tensors_list_files(set, file, err));
    QVL_TRY_DONE(qvl_tensors_reserve(set, 1 + l.n + qvl_tensors_count(file), err));
    QVL_TRY_DONE(fill(set, &l, file, &c->text, err));
    *packed_bytes = l.packed_bytes;
    *views = set;
    set = NULL;
done:
    qvl_tensors_close(&set);
    qvl_mem_free(l.item);
    return rc;
}
