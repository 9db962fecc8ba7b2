/* chat.h - messages and the chat template (sections 8.4 to 8.6 of the model notes).
 *
 * The published templates are Jinja programs; their meaning is implemented here in C for the Instruct and the Thinking
 * variant. Which of the two a model uses is read off its template text. */
#ifndef QVL_TEXT_CHAT_H
#define QVL_TEXT_CHAT_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"
#include "text/tokenizer.h"

enum qvl_item_kind { QVL_ITEM_TEXT, QVL_ITEM_IMAGE, QVL_ITEM_VIDEO };

struct qvl_item {
    enum qvl_item_kind kind;
    char *text; /* QVL_ITEM_TEXT: the text (may hold NULs: see len); media: where it comes from, as given
                   (path, file:// or data: URL), or NULL. From qvl_alloc */
    size_t len;
    int media; /* media: index chosen by the owner of the conversation; -1 = none yet */
};

struct qvl_message {
    qvl_role role;
    struct qvl_item *items;
    size_t n_items;
    int is_list;        /* content was a list of parts rather than a string: the same to the templates, except that the
                           published Instruct one takes a list that renders to nothing for content (tool calls) */
    char *reasoning;    /* reasoning_content, or NULL */
    json_t *tool_calls; /* array, or NULL */
    /* Answers of this session: the exact ids the model wrote, without the end token (the template writes it). They stand
     * in for the content when the prompt is built, so that the KV cache of the answer stays valid. */
    int32_t *ids;
    size_t n_ids;
};

struct qvl_chat {
    struct qvl_message *msg;
    size_t n, cap;
    json_t *tools; /* array, or NULL */
};

void qvl_chat_free(struct qvl_chat *c);
void qvl_message_free(struct qvl_message *m);
/* Takes ownership of *m (and empties it). */
int qvl_chat_add(struct qvl_chat *c, struct qvl_message *m, qvl_err *err);
/* Removes messages from index n on. */
void qvl_chat_truncate(struct qvl_chat *c, size_t n);

/* OpenAI form (list, or object with "messages", "tools", "add_generation_prompt", "add_vision_id"). Content: string, null
 * or list of parts: {"type":"text","text":..}, {"type":"image","image":PATH}, {"type":"image_url",
 * "image_url":URL or {"url":URL}}, {"type":"video",..}, {"type":"video_url",..}. Appends to c. */
struct qvl_chat_options {
    int add_generation_prompt; /* default 1 */
    int add_vision_id;         /* default 0 */
};
/* Options keep the caller's values where the JSON names none; opt may be NULL. All or nothing: on failure c is as it was.
 * The role "developer" counts as system. */
int qvl_chat_parse(struct qvl_chat *c, struct qvl_chat_options *opt, const char *json, size_t len, const char *what,
                   qvl_err *err);

/* The object that holds name and arguments: call["function"] if there is one, else the call itself. */
const json_t *qvl_tool_call_function(const json_t *call);

struct qvl_template; /* immutable, shareable */
/* From chat_template.jinja, chat_template.json or tokenizer_config.json of a model folder, the first that has one. A folder
 * without a template gets the Instruct one. */
int qvl_template_open(struct qvl_template **out, const char *dir, qvl_err *err);
/* From the template's text: for tests. */
int qvl_template_parse(struct qvl_template **out, const char *jinja, size_t len, const char *what, qvl_err *err);
void qvl_template_close(struct qvl_template **t);
int qvl_template_thinking(const struct qvl_template *t);
/* The text it was read from, borrowed; NULL when the folder had none. */
const char *qvl_template_source(const struct qvl_template *t, size_t *len);

/* Rendered prompt: one text in stretches of different trust, plus the places where recorded ids go. */
struct qvl_insert {
    size_t at;          /* byte offset in the text where the ids stand */
    const int32_t *ids; /* borrowed from the message */
    size_t n_ids;
};
struct qvl_prompt {
    struct qvl_buf text;
    struct qvl_stretch *stretches;
    size_t n_stretches, cap_stretches;
    struct qvl_insert *inserts;
    size_t n_inserts, cap_inserts;
    const struct qvl_item **media;
    size_t n_media, cap_media; /* in order of appearance; borrowed */
};
/* Initialises *out. use_ids = 0 renders every answer from its text. The result borrows from the chat. */
int qvl_template_render(const struct qvl_template *t, const struct qvl_chat *c, const struct qvl_chat_options *opt,
                        int use_ids, struct qvl_prompt *out, qvl_err *err);
void qvl_prompt_free(struct qvl_prompt *p);
/* Appends the ids of a rendered prompt. The texts between two inserts are tokenised each for itself; ids of inserts are
 * copied in; media pads stay single (one id per picture). */
int qvl_prompt_encode(const struct qvl_prompt *p, const struct qvl_tokenizer *t, struct qvl_ids *out, qvl_err *err);

#endif
