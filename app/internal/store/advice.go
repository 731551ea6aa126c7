package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// advice is what to do about an answer of PostgreSQL or of PgBouncer, by the beginning of the
// SQLSTATE and a part of the message; the first that fits. PgBouncer's own answers are 08P01.
var advice = []struct{ state, message, next string }{
	{"08P01", "unsupported startup parameter", "take the parameter out of the connection URI, or list it in PgBouncer's ignore_startup_parameters"},
	{"08P01", "transaction blocks not allowed", "set PgBouncer's pool_mode to transaction or session"},
	{"08P01", "no such database", "add the database to the pooler's configuration, or correct the name in the connection URI"},
	{"08P01", "no such user", "add the user to PgBouncer's auth_file, or set auth_query"},
	{"08P01", "no more connections allowed", "raise PgBouncer's max_client_conn"},
	{"08P01", "query_wait_timeout", "raise PgBouncer's default_pool_size: no server connection became free in time"},
	{"08", "", "look into the log of the server, or of the pooler before it, for the reason"},
	{"28P01", "", "check the user and the password that the service logs in with"},
	{"28", "pg_hba.conf", "add a line for the user, the database and the pods' addresses to the server's pg_hba.conf (hostssl)"},
	{"28", "not permitted to log in", "run ALTER ROLE name LOGIN, with the role's name"},
	{"28", "", "check that the server lets the user log in to this database from the pods"},
	{"3D", "", "run CREATE DATABASE with this name, or correct the name in the connection URI"},
	{"42501", "for schema", "in the service's database, run GRANT USAGE, CREATE ON SCHEMA name TO user, with the schema's name and the service's database user"},
	{"42501", "for database", "run GRANT CONNECT, CREATE ON DATABASE name TO user, with the database's name and the service's database user"},
	{"42501", "must be owner", "run ALTER ... OWNER TO user for it, with the service's database user: migrations change what they own only"},
	{"42501", "", "run GRANT ALL ON ALL TABLES IN SCHEMA public TO user, with the service's database user, or log in as the owner of the tables"},
	{"53100", "", "free or add disk space on the database server"},
	{"53200", "", "give the database server more memory, or lower its memory settings"},
	{"53300", "for role", "raise the role's CONNECTION LIMIT, or lower spec.replicas"},
	{"53300", "for database", "raise the database's CONNECTION LIMIT, or lower spec.replicas"},
	{"53300", "", "raise the server's max_connections, lower spec.replicas, or put PgBouncer in front of it"},
	{"53", "", "raise the limit that the server names"},
}

// withAdvice is the server's message, its SQLSTATE and what to do next.
func withAdvice(server *pgconn.PgError) error {
	cause := fmt.Sprintf("%s (SQLSTATE %s)", server.Message, server.Code)
	for _, a := range advice {
		if strings.HasPrefix(server.Code, a.state) && strings.Contains(server.Message, a.message) {
			return errors.New(cause + ": " + a.next)
		}
	}
	return errors.New(cause)
}
