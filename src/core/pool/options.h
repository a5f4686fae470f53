#ifndef CUEBALL_CORE_OPTIONS_H
#define CUEBALL_CORE_OPTIONS_H

#include "state.h"

bool cueball__options_read(cueball_options *options, const cueball_options *given);
void cueball__settings_from(cueball__settings *settings, const cueball_options *options);

#endif
