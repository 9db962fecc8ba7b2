/* pack.c - qvl_pack: a model of any form → a folder that needs nothing else. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "engine/calibrate.h"
#include "engine/pack_folder.h"

void qvl_pack_params_default(qvl_pack_params *p) { *p = (qvl_pack_params){.struct_size = sizeof *p}; }

static int take_kinds(struct qvl_pack_options *o, const qvl_pack_params *p, qvl_err *err)
{
    switch (p->precision) {
    case QVL_PRECISION_AUTO: o->text = QVL_DT_Q4; o->keep = 1; break;
    case QVL_PRECISION_Q4: o->text = QVL_DT_Q4; break;
    case QVL_PRECISION_Q8: o->text = QVL_DT_Q8; break;
    default: return qvl_fail(err, QVL_E_ARG, "qvl_pack: the decoder is packed to q4 or q8");
    }
    switch (p->head) {
    case QVL_PRECISION_AUTO: o->head = qvl_pack_default_head(o->text); return 0;
    case QVL_PRECISION_Q4: o->head = QVL_DT_Q4; return 0;
    case QVL_PRECISION_Q8: o->head = QVL_DT_Q8; return 0;
    case QVL_PRECISION_BF16: o->head = QVL_DT_UNKNOWN; return 0;
    default: return qvl_fail(err, QVL_E_ARG, "qvl_pack: the head is packed to q4 or q8, or kept (bf16)");
    }
}

static qvl_model_params model_params(const qvl_pack_params *p)
{
    qvl_model_params mp;
    qvl_model_params_default(&mp);
    mp.path = p->path;
    mp.text = p->text;
    mp.vision = p->vision;
    mp.mmproj = p->mmproj;
    mp.cpu = p->cpu;
    return mp;
}

struct pack_run {
    const qvl_pack_params *p;
    struct qvl_model *m;
    struct qvl_pack_folder folder;
    struct qvl_packing work;
    struct qvl_watch watch;
    struct qvl_calibrated calibrated;
    char key[40], seen[40]; /* seen: of the calibration, "" without one */
};

/* The object that config.json gets: for people and other programs; qvl itself reads the metadata of the weights. */
static int note(struct qvl_buf *b, const struct pack_run *r)
{
    const struct qvl_model *m = r->m;
    const struct qvl_packing *work = &r->work;
    qvl_buf_printf(b, "{\"packing\": %s, \"text\": \"%s\", \"head\": \"%s\", \"group\": %d, \"source\": ", QVL_PACK_VERSION,
                   qvl_pack_kind(work->o.text), qvl_pack_kind(work->o.head), QVL_GROUP);
    qvl_json_quote(b, m->name, strlen(m->name));
    long error = (long)(work->rms_error * 1e6 + 0.5); /* no decimal point of another language */
    qvl_buf_printf(b, ", \"key\": \"%s\", \"weight_error_ppm\": %ld", r->key, error);
    if (r->seen[0])
        qvl_buf_printf(b, ", \"calibration\": {\"key\": \"%s\", \"requests\": %llu, \"tokens\": %llu}", r->seen,
                       (unsigned long long)r->calibrated.n_requests, (unsigned long long)r->calibrated.n_tokens);
    qvl_buf_putc(b, '}');
    return b->failed;
}

static const float *importance(void *ud, const char *name)
{
    struct pack_run *r = ud;
    return r->calibrated.moments ? qvl_moments_of(r->calibrated.moments, name) : NULL;
}

static void release(void *ud, const void *p, size_t n)
{
    struct pack_run *r = ud;
    qvl_model_release(r->m, p, n);
}

/* Opens the model once more, to be computed with: in f32 when it is small, else in bf16. */
static int calibrate(struct pack_run *r, qvl_err *err)
{
    qvl_model *m = NULL;
    qvl_model_params mp = model_params(r->p);
    qvl_session_params sp;
    uint64_t h[2];
    struct qvl_watch watch = {.progress = r->p->progress, .ud = r->p->progress_ud, .stage = "calibrate"};
    mp.precision = r->m->weights.mapped_bytes <= QVL_AUTO_F32_BYTES ? QVL_PRECISION_F32 : QVL_PRECISION_BF16;
    QVL_TRY(qvl_model_open(&m, &mp, err));
    qvl_session_params_default(&sp);
    sp.n_threads = r->p->n_threads;
    int rc = qvl_calibrate(&r->calibrated, m, r->p->calibrate, &sp, &watch, err);
    qvl_model_close(&m);
    QVL_TRY(rc);
    qvl_moments_hash(r->calibrated.moments, h);
    snprintf(r->seen, sizeof r->seen, "%016llx%016llx", (unsigned long long)h[0], (unsigned long long)h[1]);
    return 0;
}

static int write_weights(struct pack_run *r, qvl_err *err)
{
    const struct qvl_tensor_meta meta[] = {{"qvl.key", r->key}, {"qvl.calibration", r->seen}};
    char *path = qvl_pack_folder_path(&r->folder, "model.safetensors");
    if (!path)
        return qvl_fail_nomem(err, strlen(r->folder.stage), "model.safetensors");
    int rc = qvl_pool_open(&r->work.pool, r->p->n_threads ? r->p->n_threads : qvl_cpu_threads(), err);
    if (rc == 0)
        rc = qvl_pack_write(path, meta, r->seen[0] ? 2 : 1, &r->work, err);
    qvl_pool_close(&r->work.pool);
    qvl_mem_free(path);
    return rc;
}

static int write_folder(struct pack_run *r, qvl_err *err)
{
    struct qvl_buf text;
    QVL_TRY(write_weights(r, err));
    qvl_buf_init(&text, 65536);
    int rc = note(&text, r) ? qvl_fail_nomem(err, text.len, "a note") : 0;
    if (rc == 0)
        rc = qvl_pack_folder_texts(&r->folder, r->m, text.data, err);
    qvl_buf_free(&text);
    return rc == 0 ? qvl_pack_folder_commit(&r->folder, err) : rc;
}

static int open_source(struct pack_run *r, qvl_err *err)
{
    qvl_model_params mp = model_params(r->p);
    mp.no_memory_check = 1; /* nothing of it stays in memory */
    QVL_TRY(qvl_model_open_as(&r->m, &mp, 1, err));
    return r->m->packing.text ? qvl_fail(err, QVL_E_ARG, "%s: is packed already", r->m->dir) : 0;
}

static int run(struct pack_run *r, qvl_err *err)
{
    struct qvl_packing *w = &r->work;
    QVL_TRY(take_kinds(&w->o, r->p, err));
    QVL_TRY(open_source(r, err));
    QVL_TRY(qvl_pack_folder_open(&r->folder, r->p->out, r->p->force, err));
    r->watch = (struct qvl_watch){.progress = r->p->progress, .ud = r->p->progress_ud, .stage = "pack"};
    w->w = &r->m->weights;
    w->c = &r->m->config;
    w->kernels = r->m->kernels;
    w->watch = &r->watch;
    w->whole = 1;
    w->importance = importance;
    w->release = release;
    w->ud = r;
    if (r->p->calibrate)
        QVL_TRY(calibrate(r, err));
    QVL_TRY(qvl_pack_bytes(w->w, w->c, &w->o, 1, &r->watch.total, err));
    QVL_TRY(qvl_model_key(r->key, r->m, &w->o, r->seen, err));
    return write_folder(r, err);
}

int qvl_pack(const qvl_pack_params *params, qvl_pack_result *out, qvl_err *err)
{
    qvl_pack_params p;
    struct pack_run r = {.p = &p};
    if (!params || params->struct_size < sizeof(size_t) || params->struct_size > 4096)
        return qvl_fail(err, QVL_E_ARG, "qvl_pack: parameters are missing or struct_size is not set");
    qvl_pack_params_default(&p);
    memcpy(&p, params, params->struct_size < sizeof p ? params->struct_size : sizeof p);
    if (!p.path || !*p.path || !p.out || !*p.out)
        return qvl_fail(err, QVL_E_ARG, "qvl_pack: a path is missing");
    int rc = run(&r, err);
    if (rc == 0 && out) {
        qvl_pack_result full = {.struct_size = out->struct_size, .file_bytes = r.watch.total, .packed_bytes = r.work.packed_bytes,
                                .error = r.work.rms_error, .n_requests = r.calibrated.n_requests,
                                .n_tokens = r.calibrated.n_tokens};
        memcpy(out, &full, out->struct_size < sizeof full ? out->struct_size : sizeof full);
    }
    qvl_moments_close(&r.calibrated.moments);
    qvl_pack_folder_close(&r.folder);
    qvl_model_close(&r.m);
    return rc;
}
