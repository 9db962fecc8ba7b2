/* interrupt.h - Ctrl-C: the first one stops the answer, the second the program. */
#ifndef QVL_CLI_INTERRUPT_H
#define QVL_CLI_INTERRUPT_H

#include "qvl.h"

/* Installs the handlers: SIGINT, and SIGPIPE ignored so that a closed pipe is an error of write. */
void qvl_interrupt_install(void);
/* From here on the first Ctrl-C cancels this session; NULL: Ctrl-C ends the program at once. */
void qvl_interrupt_watch(qvl_session *s);
/* From here on the first Ctrl-C leaves a mark for qvl_interrupt_pending(), the second ends the program. */
void qvl_interrupt_mark(void);
/* From here on Ctrl-C only leaves a mark (a line is being edited). */
void qvl_interrupt_collect(void);
/* From here on the first Ctrl-C leaves a mark, for work that stops by itself and cleans up; the second ends the program. */
void qvl_interrupt_defer(void);
/* Ctrl-C since watch(), or presses not taken since collect()? */
int qvl_interrupt_pending(void);
/* Takes one press; 0 when there is none. */
int qvl_interrupt_take(void);

#endif
