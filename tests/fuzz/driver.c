/* Runs a fuzz target over files and folders: the corpora are unit tests too, without a fuzzing engine. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 4 << 20 };

static int run_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	if (!f) {
		perror(path);
		return -1;
	}
	/* Exactly as large as the input, so that a sanitizer sees a read past its end. */
	uint8_t *big = malloc(INPUT_MAX);
	size_t size = big ? fread(big, 1, INPUT_MAX, f) : 0;
	uint8_t *data = malloc(size ? size : 1);
	if (!big || !data || ferror(f)) {
		perror(path);
		exit(1);
	}
	memcpy(data, big, size);
	free(big);
	(void)fclose(f);
	(void)LLVMFuzzerTestOneInput(data, size);
	free(data);
	return 0;
}

static int run_folder(const char *path)
{
	DIR *d = opendir(path);
	if (!d) {
		perror(path);
		return -1;
	}
	int ran = 0;
	for (struct dirent *e; (e = readdir(d));) {
		char file[4096];
		if (e->d_name[0] == '.')
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
		if (run_file(file) < 0) {
			(void)closedir(d);
			return -1;
		}
		ran++;
	}
	(void)closedir(d);
	return ran;
}

int main(int argc, char **argv)
{
	int ran = 0;
	for (int i = 1; i < argc; i++) {
		int n = run_folder(argv[i]);
		if (n < 0)
			return 1;
		ran += n;
	}
	printf("%d inputs\n", ran);
	return ran > 0 ? 0 : 1;
}
