//go:build integration

package store_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// postgres returns a migrated database, opened in the role of a Job, and a plain connection to it.
func postgres(t *testing.T) (store.Store, *pgx.Conn, string) {
	t.Helper()
	server, uri := storetest.SharedDatabase(t)
	uriFile := filepath.Join(t.TempDir(), "uri")
	if err := os.WriteFile(uriFile, []byte(uri), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), config.Database{Postgres: &config.Postgres{URIFile: uriFile, CAFile: server.CAFile, MaxConnections: 8}}, nil, store.RoleJob)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db, connect(t, uri), uri
}

func connect(t *testing.T, uri string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(ctx) })
	return conn
}

// TestBatchesGoByTheirIDs checks that the cost of a batch depends only on its own rows and keys,
// with generic and with custom plans, however many other rows the key or the table has.
func TestBatchesGoByTheirIDs(t *testing.T) {
	db, conn, _ := postgres(t)
	tables, _, err := db.SealedColumns(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var table store.SealedTable
	for _, candidate := range tables {
		if candidate.Name == "notes" {
			table = candidate
		}
	}
	execute := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	execute(`INSERT INTO users (id, username, password_hash, pepper_id, created_at)
		SELECT gen_random_uuid(), n::text, 'h', 'p', 0 FROM generate_series(1, 20000) n`)
	execute(`INSERT INTO owner_keys (owner, id, kek_version, born_version, wrapped, state, created_at)
		SELECT id, 'key-of-' || id, 1, 1, 'vault:v1:x', 'active', 0 FROM users`)
	execute(`INSERT INTO notes (owner, id, key_id, revision, content, created_at, updated_at)
		SELECT id, gen_random_uuid(), 'key-of-' || id, 1, decode(repeat('01', 64), 'hex'), 0, 0 FROM (SELECT id FROM users LIMIT 100) AS users, generate_series(1, 100)`)
	execute("ANALYZE")
	execute("PREPARE batch AS " + store.SealedRowsQuery(table))
	execute("PREPARE replace AS " + store.ReplaceSealedStatement(table))
	execute("PREPARE keys AS " + store.OwnersKeysQuery(tables))
	execute("PREPARE activate AS " + store.ReplaceActiveKeysStatement)
	execute("PREPARE drop AS " + store.DeleteReplacedKeysStatement)
	var owner, owners string
	if err := conn.QueryRow(t.Context(), "SELECT quote_literal(min(id::text)), quote_literal(array_agg(id)) FROM (SELECT id FROM users LIMIT 50) AS fifty").Scan(&owner, &owners); err != nil {
		t.Fatal(err)
	}
	const nobody = "'00000000-0000-0000-0000-000000000000'"
	plan := func(statement string) string {
		t.Helper()
		rows, err := conn.Query(t.Context(), "EXPLAIN EXECUTE "+statement, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(lines, "\n")
	}
	for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
		execute("SET plan_cache_mode = " + mode)
		for index, statement := range map[string]string{
			"notes_by_key": "batch(" + owner + ", 'key', " + nobody + ", 100)",
			"notes_pkey":   "replace(1, " + owner + ", 'key', 'next', ARRAY[" + nobody + "]::uuid[], '{1}'" + strings.Repeat(", '{}'", len(table.Columns)) + ")",
		} {
			if plan := plan(statement); !strings.Contains(plan, "Index Scan using "+index) || strings.Contains(plan, "Sort") {
				t.Errorf("%s, not by %s:\n%s", mode, index, plan)
			}
		}
		for _, statement := range []string{
			"keys(" + owners + ")", "activate(2, " + owners + ", '{}', '{}', '{}', 0)", "drop(2, " + owners + ", '{}')",
		} {
			for _, all := range []string{"Seq Scan on users", "Seq Scan on owner_keys", "Seq Scan on notes"} {
				if plan := plan(statement); strings.Contains(plan, all) {
					t.Errorf("%s, not by keys:\n%s", mode, plan)
				}
			}
		}
	}
}

// TestRaiseIsNotPassedBy checks that a transaction that reads the fence after a rotation has asked
// to raise it waits for that rotation, so that a busy older rotation cannot delay a Compromise.
func TestRaiseIsNotPassedBy(t *testing.T) {
	db, first, uri := postgres(t)
	const share = "SELECT min_kek_version FROM fence WHERE id = 1 FOR SHARE"
	holder, err := first.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), share); err != nil {
		t.Fatal(err)
	}
	watch := connect(t, uri)
	awaitWaiting := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			waiting := 0
			if err := watch.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()").Scan(&waiting); err != nil {
				t.Fatal(err)
			}
			if waiting == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d sessions wait, want %d", waiting, want)
			}
		}
	}
	raised := make(chan error, 1)
	go func() { raised <- db.RaiseFence(ctx, 7) }()
	awaitWaiting(1)
	second := connect(t, uri)
	seen, failed := make(chan int, 1), make(chan error, 1)
	go func() {
		least := 0
		err := second.QueryRow(ctx, share).Scan(&least)
		seen <- least
		failed <- err
	}()
	awaitWaiting(2)
	if err := holder.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-raised; err != nil {
		t.Error(err)
	}
	if least, err := <-seen, <-failed; least != 7 || err != nil {
		t.Errorf("who came later read version %d, %v", least, err)
	}
}
