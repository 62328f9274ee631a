// C code of a program: numbers, a call back into Rust, a variable of each thread. It calls nothing of a C library.

double sum(int count, double (*next)(int))
{
    double all = 0;
    for (int number = 0; number < count; number++)
        all += next(number);
    return all;
}

int calls(void)
{
    static _Thread_local int before;
    return ++before;
}
