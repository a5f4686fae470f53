/* Connections to PostgreSQL for cueball's pools, see postgres_factory.c. */
#ifndef POSTGRES_FACTORY_H
#define POSTGRES_FACTORY_H

/* Registers a connection factory.
 *   name      under which a script finds it: cueball.native "pg"
 *   conninfo  who logs in where, as libpq wants it: "dbname=shop user=ann password=sesame"; copied.  The server comes from the pool
 * 0; or an error of cueball's: CUEBALL_EEXISTS, CUEBALL_EINVAL, CUEBALL_ENOMEM.  Any thread. */
#ifdef __GNUC__
__attribute__((visibility("default")))
#endif
int postgres_factory_register(const char *name, const char *conninfo);

#endif
