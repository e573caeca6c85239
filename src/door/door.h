#pragma once

/* The whole process: enters the jail, greets aiosd on WIRE_FD, takes the setup, serves `listen_fd` until
 * aiosd says stop or goes away. Returns the exit status. */
int door_main(int listen_fd);
