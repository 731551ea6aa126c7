package store

// Writers is how many transactions can write at the same time: as many as there are connections, or one with
// SQLite.
func (s *Store) Writers() int { return s.dialect.writers(s) }

func (postgres) writers(s *Store) int { return s.db.Stats().MaxOpenConnections }

func (*sqliteDialect) writers(*Store) int { return 1 }
