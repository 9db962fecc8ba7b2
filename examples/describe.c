/* describe.c - asks a model about a picture with the C interface, and prints the answer as it comes.
 *
 *   cc describe.c $(pkg-config --cflags --libs qvl) -o describe
 *   ./describe MODEL photo.jpg "What is in this picture?"
 */
#include <qvl.h>

#include <stdio.h>
#include <string.h>

/* Called with complete characters; returning something else than 0 would stop the answer. */
static int print(void *ud, const char *text, size_t len)
{
    (void)ud;
    return fwrite(text, 1, len, stdout) != len || fflush(stdout) != 0;
}

static int describe(qvl_model *model, const char *picture, const char *question, qvl_err *err)
{
    qvl_session_params params;
    qvl_gen_params gen;
    qvl_session *session = NULL;
    qvl_result result;
    qvl_part parts[] = {{.kind = QVL_PART_IMAGE_FILE, .data = picture, .len = strlen(picture)},
                        {.kind = QVL_PART_TEXT, .data = question, .len = strlen(question)}};

    qvl_session_params_default(&params);
    qvl_gen_params_default(&gen, model); /* sampling as the model's generation_config.json wants it */
    gen.on_text = print;
    int rc = qvl_session_open(&session, model, &params, err);
    if (rc == 0)
        rc = qvl_session_add(session, QVL_ROLE_USER, parts, 2, err);
    if (rc == 0)
        rc = qvl_session_generate(session, &gen, &result, err);
    if (rc == 0)
        printf("\n(%u prompt tokens, %zu generated)\n", result.n_prompt, result.n_ids);
    qvl_session_close(&session);
    return rc;
}

int main(int argc, char **argv)
{
    qvl_model_params params;
    qvl_model *model = NULL;
    qvl_err err = {0};

    if (argc < 3) {
        fprintf(stderr, "usage: describe MODEL PICTURE [QUESTION]\n");
        return 2;
    }
    qvl_model_params_default(&params);
    params.path = argv[1];
    int rc = qvl_model_open(&model, &params, &err);
    if (rc == 0)
        rc = describe(model, argv[2], argc > 3 ? argv[3] : "Describe this image.", &err);
    if (rc != 0)
        fprintf(stderr, "describe: %s\n", err.msg);
    qvl_model_close(&model);
    return rc != 0;
}
