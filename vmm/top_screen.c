/* foal top on a terminal: ncurses, whose state is the process's, too. */
#include <curses.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/top.h"

#define ESCAPE 0x1b
#define DELETE 0x7f

static SCREEN *screen;
static bool asking;	/* for an interval */
static char answer[16]; /* what was typed of it */

int top_screen_open(struct foal_error *err)
{
	const char *type = getenv("TERM");

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return error_set(err, FOAL_EXIT_USAGE, -ENOTTY,
				 "top: no terminal to draw on; -b prints lines");
	screen = newterm(NULL, stdout, stdin);
	if (!screen)
		return error_set(err, FOAL_EXIT_HOST, -ENOENT,
				 "top: nothing is known of a terminal of type \"%s\" (TERM); -b "
				 "prints lines",
				 type ? type : "");
	set_escdelay(50);
	cbreak();
	noecho();
	nonl();
	curs_set(0);
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	return 0;
}

void top_screen_close(void)
{
	endwin();
	delscreen(screen);
}

static unsigned at_most(int n, unsigned most)
{
	return n < 1 ? 1 : (unsigned)n < most ? (unsigned)n : most;
}

static void draw_line(const struct top_page *page, unsigned row)
{
	const char *text = page->text[row];

	move((int)row, 0);
	for (unsigned i = 0; text[i]; i++)
		addch((chtype)(unsigned char)text[i] | (page->bold[row][i] ? A_REVERSE : A_NORMAL));
}

void top_screen_measure(struct top_page *page)
{
	page->rows = at_most(LINES, TOP_ROWS_MAX);
	page->columns = at_most(COLS, TOP_COLUMNS_MAX);
}

void top_screen_draw(const struct top_page *page)
{
	erase();
	for (unsigned i = 0; i < page->used; i++)
		draw_line(page, i);
	if (asking) {
		move(LINES - 1, 0);
		clrtoeol();
		printw("seconds between two looks: %s", answer);
	}
	refresh();
}

/* A key of the question's. */
static enum top_key type(int key)
{
	size_t len = strlen(answer);

	if (key == '\n' || key == '\r' || key == KEY_ENTER || key == ESCAPE) {
		asking = false;
		return key == ESCAPE || !len ? TOP_KEY_OTHER : TOP_KEY_ANSWER;
	}
	if ((key == KEY_BACKSPACE || key == DELETE || key == '\b') && len)
		answer[len - 1] = 0;
	else if (((key >= '0' && key <= '9') || key == '.') && len < sizeof(answer) - 1)
		memcpy(answer + len, (char[]){(char)key, 0}, 2);
	return TOP_KEY_OTHER;
}

enum top_key top_screen_key(void)
{
	int key = getch();

	if (key == ERR)
		return TOP_KEY_NONE;
	if (asking)
		return type(key);
	switch (key) {
	case 'q':
		return TOP_KEY_QUIT;
	case 's':
	case KEY_RIGHT:
	case KEY_DOWN:
		return TOP_KEY_NEXT;
	case KEY_LEFT:
	case KEY_UP:
		return TOP_KEY_PREVIOUS;
	case '\n':
	case '\r':
	case KEY_ENTER:
		return TOP_KEY_ENTER;
	case ESCAPE:
	case KEY_BACKSPACE:
	case DELETE:
	case '\b':
		return TOP_KEY_BACK;
	case 'd':
		asking = true;
		answer[0] = 0;
		return TOP_KEY_OTHER;
	default:
		return TOP_KEY_OTHER;
	}
}

const char *top_screen_answer(void)
{
	return answer;
}
