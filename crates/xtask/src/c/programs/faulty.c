/* Does what memcheck is there to find, as its argument says: it must be found. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Not known to the compiler, which would leave out what nobody looks at. */
static void *volatile place;

int main(int argc, char **argv)
{
    const char *fault = argc == 2 ? argv[1] : "";
    volatile char *bytes = (volatile char *)malloc(16);

    place = (void *)(size_t)bytes;
    if (bytes == NULL)
        return 1;
    bytes[0] = 'x';
    if (strcmp(fault, "leak") == 0) {
        bytes = NULL;
        place = NULL;
        return 0;
    }
    free(place);
    place = NULL;
    if (strcmp(fault, "read") == 0)
        printf("%c\n", bytes[0]);
    else if (strcmp(fault, "none") != 0)
        return 2;
    return 0;
}
