package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// advice is what to do next about an error of PostgreSQL or PgBouncer. The first entry counts whose
// state is a prefix of the SQLSTATE and whose message is part of the error's message. OBJECT stands
// for the text after that part. PgBouncer uses the SQLSTATE 08P01 for most of its own errors.
var advice = []struct{ state, message, next string }{
	{"08P01", "unsupported startup parameter: ", "take OBJECT out of the connection URI, or list it in PgBouncer's ignore_startup_parameters"},
	{"08P01", "transaction blocks not allowed", "set PgBouncer's pool_mode to transaction or session"},
	{"08P01", "no such database", "add the database to PgBouncer's configuration, or correct its name in the connection URI"},
	{"08P01", "no such user", "add the user to PgBouncer's auth_file, or set its auth_query"},
	{"08P01", "server login has been failing", "look in PgBouncer's log for why the server refuses its login"},
	{"08P01", "authentication failed", "check the user and the password that the service logs in with, and PgBouncer's auth_file or auth_query"},
	{"08P01", "no more connections allowed", "raise PgBouncer's max_client_conn, or lower spec.replicas"},
	{"08P01", "query_wait_timeout", "raise PgBouncer's default_pool_size: no server connection became free in time"},
	{"08", "", "look for the reason in the log of the server, or of the pooler in front of it"},
	{"28P01", "", "check the user and the password that the service logs in with"},
	{"28", "pg_hba.conf", "add a hostssl line for the user, the database and the pods' addresses to the server's pg_hba.conf"},
	{"28", "not permitted to log in", "run ALTER ROLE USER LOGIN, where USER is the service's database user"},
	{"28", "", "check that the server lets the user log in to this database from the pods"},
	{"3D", "", "create the database, or correct its name in the connection URI"},
	{"42501", "for schema ", "in the service's database, run GRANT USAGE, CREATE ON SCHEMA OBJECT TO USER, where USER is the service's database user"},
	{"42501", "for database ", "run GRANT CONNECT ON DATABASE OBJECT TO USER, where USER is the service's database user"},
	{"42501", "for table ", "in the service's database, run GRANT ALL ON ALL TABLES IN SCHEMA public TO USER, where USER is the service's database user"},
	{"42501", "must be owner of ", "let the service's database user own OBJECT: migrations change it"},
	{"42501", "", "give the service's database user this right"},
	{"53100", "", "free or add disk space on the database server"},
	{"53200", "", "give the database server more memory"},
	{"53300", "for role ", "run ALTER ROLE OBJECT CONNECTION LIMIT with a higher number, or lower spec.replicas"},
	{"53300", "for database ", "run ALTER DATABASE OBJECT CONNECTION LIMIT with a higher number, or lower spec.replicas"},
	{"53300", "", "raise the server's max_connections, lower spec.replicas, or put PgBouncer in front of the server"},
	{"53", "", "raise the limit that the server names"},
}

// withAdvice returns an error with the server's message, its SQLSTATE and what to do next.
func withAdvice(server *pgconn.PgError) error {
	cause := fmt.Sprintf("%s (SQLSTATE %s)", server.Message, server.Code)
	for _, a := range advice {
		if _, object, found := strings.Cut(server.Message, a.message); found && strings.HasPrefix(server.Code, a.state) {
			return errors.New(cause + ": " + strings.Replace(a.next, "OBJECT", object, 1))
		}
	}
	return errors.New(cause)
}
