#pragma once

/* The command line. Returns the exit status. */
int cli_main(int argc, char **argv);
