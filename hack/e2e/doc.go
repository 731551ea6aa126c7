// Package e2e tests SecureNotes from outside, on the real cluster that `make run` creates: with
// real kubelets, Vault, cert-manager and PostgreSQL. Its tests have the build tag e2e. `make
// test-e2e` creates the cluster and runs them.
//
// Tests that change shared parts (the sample, the operator's Helm release, Vault's seal) run one
// after another. The others use a namespace of their own and run in parallel.
package e2e
