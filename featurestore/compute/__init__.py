"""Where tasks run: this process, others, a cluster; and how much memory there is."""
