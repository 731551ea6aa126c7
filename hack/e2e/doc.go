// Package e2e tests the whole of SecureNotes from outside, on the real cluster that `make run` brings
// up: real kubelets, Vault, cert-manager and PostgreSQL. Its tests have the build tag e2e;
// `make test-e2e` brings the cluster up and runs them.
//
// Tests that change shared parts (the sample, the operator's Helm release, Vault's seal) run one after
// another; the others have a namespace of their own and run beside each other.
package e2e
