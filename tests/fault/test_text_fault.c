/* test_text_fault.c - text/ and sample/ with the n-th allocation failing, for every n: the call must return QVL_E_NOMEM (or
 * have coped), leave its outputs as promised, and give back all memory. The JSON library's allocations fail as well; it
 * mistakes some of these failures for bad syntax and loses characters in others, so there any error will do. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sample/sampler.h"
#include "text/chat.h"
#include "text/unicode.h"
#include "unit/text_help.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif

#if defined(SANITIZED) || !defined(__GLIBC__)
int main(void)
{
    puts("skipped: malloc cannot be replaced here");
    return 77;
}
#else

static long countdown = -1, live, failed;

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);
void *malloc(size_t n);
void *calloc(size_t n, size_t size);
void *realloc(void *p, size_t n);
void *aligned_alloc(size_t align, size_t n);
void free(void *p);

static int fails(void)
{
    if (countdown < 0 || countdown-- != 0)
        return 0;
    failed++;
    return 1;
}

static void *counted(void *p)
{
    live += p != NULL;
    return p;
}

void *malloc(size_t n)
{
    return fails() ? NULL : counted(__libc_malloc(n));
}
void *calloc(size_t n, size_t size)
{
    return fails() ? NULL : counted(__libc_calloc(n, size));
}
void *aligned_alloc(size_t align, size_t n)
{
    return fails() ? NULL : counted(__libc_memalign(align, n));
}

void *realloc(void *p, size_t n)
{
    if (fails())
        return NULL;
    void *q = __libc_realloc(p, n);
    live += !p && q;
    return q;
}

void free(void *p)
{
    live -= p != NULL;
    __libc_free(p);
}

/* The JSON library's allocator. */
static int in_json;

static void *json_malloc(size_t n)
{
    void *p = malloc(n);
    in_json |= !p;
    return p;
}

/* ---------------------------------------------------------------- the calls */

static char *tokenizer_json;
static size_t tokenizer_len;
static struct qvl_tokenizer *tokenizer; /* opened without failures, for the others */

static int do_tokenizer(qvl_err *err)
{
    struct qvl_tokenizer *t;
    int rc = qvl_tokenizer_parse(&t, tokenizer_json, tokenizer_len, "small", err);
    if (rc < 0 && t)
        return 1;
    qvl_tokenizer_close(&t);
    return rc;
}

static int do_encode(qvl_err *err)
{
    static const char text[] =
        "abc <|im_end|> e\xcc\x81\xcc\xa3 long long long long long long words and \xff bytes abababababababababababab";
    struct qvl_stretch st = {sizeof text - 1, QVL_TRUST_ALL};
    struct qvl_ids ids = {0};
    int rc = 0;
    for (int i = 0; i < 3 && rc == 0; i++) {
        size_t before = ids.n;
        rc = qvl_tokenizer_encode(tokenizer, text, sizeof text - 1, &st, 1, &ids, err);
        if (rc < 0 && ids.n != before)
            rc = 1;
    }
    qvl_ids_free(&ids);
    return rc;
}

/* Long runs of marks need the work buffers of NFC. */
static int do_nfc(qvl_err *err)
{
    uint32_t in[400];
    struct qvl_cps out = {0};
    for (size_t i = 0; i < 400; i++)
        in[i] = i % 2 ? 0x301 : 0x323;
    int rc = qvl_nfc(&out, in, 400, err);
    qvl_cps_free(&out);
    return rc;
}

static int do_prompt(qvl_err *err)
{
    static const char json[] =
        "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":[{\"type\":\"image\","
        "\"image\":\"a\"},{\"type\":"
        "\"text\",\"text\":\"Q\"},{\"type\":\"video\",\"video\":\"v\"}]},{\"role\":\"assistant\",\"content\":\"<think>w</"
        "think>A\","
        "\"tool_calls\":[{\"name\":\"f\",\"arguments\":{\"a\":[1,2]}}]},{\"role\":\"tool\",\"content\":\"R\"},{\"role\":"
        "\"assistant\","
        "\"content\":\"B\",\"reasoning_content\":\"W\"}],\"tools\":[{\"name\":\"f\"}],\"add_vision_id\":true}";
    static const char *const jinja[2] = {"<|im_start|><|im_end|><|image_pad|>add_generation_prompt",
                                         "<|im_start|><|im_end|><|image_pad|>add_generation_prompt<think>"};
    int rc = 0;
    for (int i = 0; i < 2 && rc == 0; i++) {
        struct qvl_chat c = {0};
        struct qvl_chat_options o = {1, 0};
        struct qvl_template *t = NULL;
        struct qvl_prompt p = {0};
        struct qvl_ids ids = {0};
        rc = qvl_template_parse(&t, jinja[i], strlen(jinja[i]), "template", err);
        if (rc == 0)
            rc = qvl_chat_parse(&c, &o, json, sizeof json - 1, "messages", err);
        if (rc < 0 && (c.n || c.tools))
            rc = 1;
        if (rc == 0)
            rc = qvl_template_render(t, &c, &o, 1, &p, err);
        if (rc == 0)
            rc = qvl_prompt_encode(&p, tokenizer, &ids, err);
        qvl_ids_free(&ids);
        qvl_prompt_free(&p);
        qvl_template_close(&t);
        qvl_chat_free(&c);
    }
    return rc;
}

static int do_stopper(qvl_err *err)
{
    static const char *const stop[] = {"END", "stop"};
    struct qvl_stopper s;
    int rc = qvl_stopper_init(&s, stop, 2, 64, err);
    qvl_stopper_free(&s);
    return rc;
}

/* ---------------------------------------------------------------- the loop */

static int problems;

static void try_all(const char *name, int (*call)(qvl_err *))
{
    long n = 0, refused = 0;
    for (;; n++) {
        qvl_err err = {0};
        long live_before = live, failed_before = failed;
        in_json = 0;
        countdown = n;
        int rc = call(&err);
        countdown = -1;
        if (live != live_before) {
            printf("%s: allocation %ld failing: %ld blocks not freed\n", name, n, live - live_before);
            problems++;
        }
        if (failed == failed_before) { /* the call needs no more than n allocations */
            if (rc != 0) {
                printf("%s: fails by itself: %d %s\n", name, rc, err.msg);
                problems++;
            }
            break;
        }
        refused += rc == QVL_E_NOMEM;
        if (rc != 0 && rc != QVL_E_NOMEM && !(in_json && rc < 0)) {
            printf("%s: allocation %ld failing: returns %d %s\n", name, n, rc, err.msg);
            problems++;
        }
    }
    printf("%s: %ld allocations, %ld refusals\n", name, n, refused);
    if (n < 1 || refused < 1)
        problems++;
}

int main(void)
{
    json_set_alloc_funcs(json_malloc, free);
    setvbuf(stdout, NULL, _IONBF, 0); /* the buffer would count as a leak */
    tokenizer_json =
        small_json(",\"ab\":256,\"abc\":257,\"abab\":258", "\"a b\",[\"ab\",\"c\"],\"ab ab\"",
                   "{\"id\":300,\"content\":\"<|im_end|>\",\"special\":true},{\"id\":301,\"content\":\"e\\u0301\"},"
                   "{\"id\":302,\"content\":\"<think>\",\"normalized\":false}",
                   &tokenizer_len);
    qvl_err err;
    if (!tokenizer_json || qvl_tokenizer_parse(&tokenizer, tokenizer_json, tokenizer_len, "small", &err) != 0)
        return 1;
    try_all("tokenizer file", do_tokenizer);
    try_all("encode", do_encode);
    try_all("nfc", do_nfc);
    try_all("prompt", do_prompt);
    try_all("stopper", do_stopper);
    qvl_tokenizer_close(&tokenizer);
    qvl_mem_free(tokenizer_json);
    return problems ? 1 : 0;
}
#endif
