#include "door/door.h"

/* aiosd makes the listening socket and puts it behind its own. */
enum { LISTEN_FD = 4 };

int main(void)
{
	return door_main(LISTEN_FD);
}
