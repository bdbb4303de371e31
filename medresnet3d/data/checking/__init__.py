"""Looking a cohort through before anything is computed: one file a question."""
