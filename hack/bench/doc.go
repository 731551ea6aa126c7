// Package bench measures the service against its peers on the same machine, in the same run: the real
// binary with TLS, a durable PostgreSQL and a real Vault. `make bench` prints the table. Nothing fails
// on time: machines differ, ratios are what to look at.
package bench
