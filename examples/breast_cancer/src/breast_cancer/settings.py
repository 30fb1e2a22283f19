"""Settings of the project: https://docs.kedro.org/en/stable/configure/configuration_basics/."""

# Extra endpoints of `kedro server start`.
SERVER_BLUEPRINTS = ["breast_cancer.api:blueprint"]
