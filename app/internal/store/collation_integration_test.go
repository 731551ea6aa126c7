//go:build integration

package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
	"github.com/securenotes/securenotes/hack/testenv"
)

// TestSnapshotOrdersByBytes reads tables of a database whose collation orders letters in another
// way than bytes: in Estonian, z comes before t.
func TestSnapshotOrdersByBytes(t *testing.T) {
	server := testenv.SharedPostgres(t)
	server.Execute(t, "CREATE DATABASE estonian TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'et' ENCODING 'UTF8'")
	uri := server.URI("estonian")
	db := storetest.Postgres(t, server, uri)(t)
	user := newUser(t, db, "alice", 1)
	admin := connect(t, uri)
	execute(t, admin, fmt.Sprintf(`INSERT INTO owner_keys (owner, id, kek_version, born_version, wrapped, state, created_at)
		SELECT '%s', l || repeat('a', 20) || n, 1, 1, '%s', 'retiring', 0 FROM unnest(ARRAY['z', 't', 'T', 'a']) l, generate_series(100, 199) n`, user.id.Owner, wrappedAt(1)))
	execute(t, admin, "INSERT INTO owner_key_seals (owner, key_id, seals) SELECT owner, id, 1 FROM owner_keys WHERE state = 'retiring'")
	execute(t, admin, "INSERT INTO recovery_codes (owner, digest) SELECT owner, id FROM owner_keys")
	got := read(t, snapshot(t, db))
	for _, table := range []string{"owner_keys", "owner_key_seals", "recovery_codes"} {
		var keys []string
		for _, row := range got.Rows[table] {
			keys = append(keys, row[1].(string))
		}
		if len(keys) < 400 || !slices.IsSorted(keys) || len(slices.Compact(slices.Clone(keys))) != len(keys) {
			t.Errorf("table %s: %d keys, not in the order of bytes: %q", table, len(keys), keys)
		}
	}
}

// TestSnapshotReadsByIndex checks that no page sorts or scans a table. A text in the primary key is
// sorted within its owner.
func TestSnapshotReadsByIndex(t *testing.T) {
	server, uri := storetest.SharedDatabase(t)
	db := storetest.Postgres(t, server, uri)(t)
	admin := connect(t, uri)
	execute(t, admin, `INSERT INTO users (id, username, password_hash, pepper_id, created_at)
		SELECT gen_random_uuid(), n::text, 'h', 'p', 0 FROM generate_series(1, 20000) n`)
	execute(t, admin, `INSERT INTO owner_keys (owner, id, kek_version, born_version, wrapped, state, created_at)
		SELECT id, 'key-of-' || id, 1, 1, 'vault:v1:x', 'active', 0 FROM users`)
	execute(t, admin, `INSERT INTO notes (owner, id, key_id, revision, content, created_at, updated_at)
		SELECT id, gen_random_uuid(), 'key-of-' || id, 1, decode(repeat('01', 64), 'hex'), 0, 0 FROM users`)
	execute(t, admin, "INSERT INTO recovery_codes (owner, digest) SELECT id, n::text FROM users, generate_series(1, 2) n")
	execute(t, admin, "INSERT INTO owner_key_seals (owner, key_id, seals) SELECT owner, id, 1 FROM owner_keys")
	execute(t, admin, "ANALYZE")
	s := snapshot(t, db)
	tables, err := s.Tables(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const middle = "'80000000-0000-0000-0000-000000000000'"
	for table, sorted := range map[string]bool{"notes": false, "users": false, "owner_keys": true, "owner_key_seals": true, "recovery_codes": true} {
		i := slices.IndexFunc(tables, func(t store.Table) bool { return t.Name == table })
		after := []string{middle, middle}
		if table == "users" {
			after = after[:1]
		}
		for name, statement := range map[string]string{
			"first": explained(store.PageQuery(s, tables[i])),
			"later": explained(store.PageQuery(s, tables[i], make([]any, len(after))...), after...),
		} {
			rows, err := admin.Query(ctx, statement, pgx.QueryExecModeSimpleProtocol)
			if err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatal(err)
			}
			plan := strings.Join(lines, "\n")
			byIndex := strings.Contains(plan, "Scan using "+table+"_pkey") && (name == "first" || strings.Contains(plan, "Index Cond"))
			rest := strings.ReplaceAll(plan, "Incremental Sort", "")
			if sorts := strings.Contains(plan, "Incremental Sort"); !byIndex || sorts != sorted || strings.Contains(rest, "->  Sort") || strings.HasPrefix(rest, "Sort") {
				t.Errorf("the %s page of %s:\n%s", name, table, plan)
			}
		}
	}
}

// explained returns the EXPLAIN of a page of 100 rows with its parameters.
func explained(query string, parameters ...string) string {
	for i, parameter := range append(parameters, "100") {
		query = strings.ReplaceAll(query, fmt.Sprintf("$%d", i+1), parameter)
	}
	return "EXPLAIN " + query
}
