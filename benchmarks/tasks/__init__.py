"""Query programs on RelBench's tasks, judged by RelBench's own evaluator."""
